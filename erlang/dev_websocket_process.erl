%%% @doc A process in the node's cache, and the checks that a slot must pass before it is
%%% published.
%%%
%%% Strangers can store much on a node of 2025: states under other programs, other content
%%% under an id. So a slot is compared with the process's own signed message, by content ids
%%% and without loading the state. A state that a stranger forged under the real program
%%% passes, and the node serves it to everybody: see SECURITY.md.
-module(dev_websocket_process).
-export([find/2, slot/3, facts/3, scheduled_at/3, is_scheduled_here/1]).

%% A state must run what its process message says, by these keys.
-define(DEFINITION, [
    <<"device-stack">>, <<"execution-device">>, <<"module">>, <<"scheduler">>, <<"authority">>
]).
%% No signature of a process covers these: they belong to a state.
-define(STATE_KEYS, [<<"initialized">>, <<"at-slot">>, <<"results">>]).

%% @doc Find a process. Its message must have a valid signature of this id. The keys that
%% a state must share with it are read once.
%%
%% On nodes of 2025 one request of a stranger can put other content at the id, with the same
%% signature beside it. A state of the process holds all signed keys as well, so it is
%% tried next: the content that the signature covers is the process, wherever it lies.
-spec find(dev_websocket_cache:cache(), binary()) -> {ok, map()} | missing | {withheld, atom()}.
find(#{address := Address} = Cache, Id) ->
    case dev_websocket_cache:read(Cache, Id) of
        Message when is_map(Message) ->
            Commitment = commitment(Message, Id),
            case first_signed([fun() -> Message end, fun() -> first_state(Cache, Id) end], Id, Commitment, Cache) of
                {ok, Signed} ->
                    {ok, #{
                        id => Id,
                        definition => definition(Cache, {message, Signed}),
                        is_scheduled_here => is_scheduler(Cache, {message, Signed}, Address)
                    }};
                error ->
                    {withheld, process_message}
            end;
        _ ->
            missing
    end.

%% @doc A slot of a process with its results, if the state passes the checks.
-spec slot(dev_websocket_cache:cache(), map(), non_neg_integer()) -> {ok, map()} | missing | {withheld, atom()}.
slot(Cache, #{id := Id} = Process, Slot) ->
    case dev_websocket_cache:state(Cache, Id, Slot) of
        missing ->
            missing;
        Root ->
            Checks = [
                {at_slot, fun() -> dev_websocket_cache:integer_key(Cache, Root, <<"at-slot">>) =:= Slot end},
                {process, fun() -> is_state_of(Cache, Root, Id) end},
                {definition, fun() -> definition(Cache, Root) =:= maps:get(definition, Process) end},
                {not_scheduled, fun() -> not is_scheduled_here(Process) orelse dev_websocket_cache:is_scheduled(Cache, Id, Slot) end}
            ],
            case [Why || {Why, Holds} <- Checks, not Holds()] of
                [] -> {ok, with_results(Cache, Root, #{process => Id, slot => Slot})};
                [Why | _] -> {withheld, Why}
            end
    end.

%% @doc Facts about a slot from the scheduler's cache: the id of its `assignment', and the
%% `sender' of its message. A message from another process is signed by the node and names
%% that process.
-spec facts(dev_websocket_cache:cache(), binary(), non_neg_integer()) -> map().
facts(#{address := Address} = Cache, Id, Slot) ->
    case dev_websocket_cache:assignment(Cache, Id, Slot) of
        missing ->
            #{};
        Assignment ->
            Facts = case dev_websocket_cache:committers(Cache, Assignment) of
                [{AssignmentId, _}] -> #{assignment => AssignmentId};
                _ -> #{}
            end,
            Body = dev_websocket_cache:child(Cache, Assignment, <<"body">>),
            case dev_websocket_cache:committers(Cache, Body) of
                [{_, Address}] ->
                    case dev_websocket_cache:text_key(Cache, Body, <<"from-process">>) of
                        Sender when is_binary(Sender) -> Facts#{sender => Sender};
                        _ -> Facts#{sender => Address}
                    end;
                [{_, Sender}] -> Facts#{sender => Sender};
                _ -> Facts
            end
    end.

%% @doc When a slot was assigned, in milliseconds, or 0 where that is not known.
-spec scheduled_at(dev_websocket_cache:cache(), binary(), non_neg_integer()) -> non_neg_integer().
scheduled_at(Cache, Id, Slot) ->
    case dev_websocket_cache:assignment(Cache, Id, Slot) of
        missing -> 0;
        Assignment ->
            case dev_websocket_cache:integer_key(Cache, Assignment, <<"timestamp">>) of
                Time when is_integer(Time), Time > 0 -> Time;
                _ -> 0
            end
    end.

%% @doc Whether this node schedules the process, so that its slots are in the scheduler's
%% cache.
-spec is_scheduled_here(map()) -> boolean().
is_scheduled_here(#{is_scheduled_here := IsHere}) -> IsHere.

%%% Private functions.

%% @doc The address may be named in several ways; one of them is enough.
is_scheduler(Cache, Root, Address) ->
    is_binary(Address) andalso
        lists:any(
            fun(Key) -> dev_websocket_cache:text_key(Cache, Root, Key) =:= Address end,
            [<<"scheduler">>, <<"scheduler-location">>]
        ).

%% @doc Only the commitment of this id counts. Others of the same message may have been
%% added by anybody, and say nothing about this one.
commitment(#{<<"commitments">> := Commitments}, Id) when is_map(Commitments) ->
    maps:get(Id, Commitments, none);
commitment(_Message, _Id) ->
    none.

first_signed([], _Id, _Commitment, _Cache) ->
    error;
first_signed([Candidate | Rest], Id, Commitment, Cache) ->
    case signed(Candidate(), Id, Commitment, Cache) of
        {ok, Signed} -> {ok, Signed};
        error -> first_signed(Rest, Id, Commitment, Cache)
    end.

%% @doc The part of a message that the commitment covers, if the commitment is valid.
signed(missing, _Id, _Commitment, _Cache) ->
    error;
signed(Message, Id, none, #{opts := Opts} = Cache) ->
    Unsigned = maps:remove(<<"commitments">>, Message),
    case dev_websocket_node:id(dev_websocket_cache:load_all(Cache, Unsigned), Opts) =:= {ok, Id} of
        true -> {ok, Unsigned};
        false -> error
    end;
signed(Message, Id, Commitment, #{opts := Opts} = Cache) ->
    Covered = covered(Message, Commitment),
    Loaded = dev_websocket_cache:load_all(Cache, Covered),
    case
        [Key || Key <- ?STATE_KEYS, is_map_key(Key, Covered)] =:= [] andalso
            dev_websocket_node:is_valid(Loaded#{<<"commitments">> => #{Id => Commitment}}, Opts)
    of
        true -> {ok, Covered};
        false -> error
    end.

covered(Message, #{<<"committed">> := Committed}) ->
    Keys = case Committed of
        List when is_list(List) -> List;
        Map when is_map(Map) -> maps:values(Map)
    end,
    maps:with([unlinked(Key) || Key <- Keys], maps:remove(<<"commitments">>, Message));
covered(Message, _Commitment) ->
    maps:remove(<<"commitments">>, Message).

unlinked(Key) -> hd(binary:split(Key, <<"+link">>)).

first_state(Cache, Id) ->
    case dev_websocket_cache:state(Cache, Id, 0) of
        missing ->
            missing;
        {message, State} ->
            State;
        Root ->
            {ok, Path} = dev_websocket_cache:path(Root),
            dev_websocket_cache:read(Cache, Path)
    end.

is_state_of(Cache, Root, Id) ->
    case dev_websocket_cache:reference(Cache, Root, <<"process">>) of
        {link, Id} -> true;
        {link, Other} -> same(Cache, Other, Id);
        _ -> false
    end.

%% @doc Two ids of one message: both lead to the same place.
same(Cache, One, Other) ->
    Place = fun(Id) -> dev_websocket_cache:place(Cache, <<Id/binary, "/commitments">>) end,
    Place(One) =:= Place(Other).

definition(Cache, Root) ->
    [dev_websocket_cache:reference(Cache, Root, Key) || Key <- ?DEFINITION].

with_results(Cache, Root, Slot) ->
    %% The place of a state is its id.
    WithState = case dev_websocket_cache:path(Root) of
        {ok, Id} when byte_size(Id) =:= 43 -> Slot#{state => Id};
        _ -> Slot
    end,
    case dev_websocket_cache:results(Cache, Root) of
        {link, ResultsId} ->
            case dev_websocket_cache:read(Cache, ResultsId) of
                Results when is_map(Results) -> WithState#{results => Results, results_id => ResultsId};
                _ -> error({unreadable, ResultsId})
            end;
        {value, Results} when is_map(Results) ->
            WithState#{results => Results};
        _ ->
            WithState#{results => #{}}
    end.
