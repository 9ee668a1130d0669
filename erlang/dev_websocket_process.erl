%%% @doc The slots of a process: the checks that a slot must pass before it is published, and
%%% its events.
%%%
%%% Strangers can store much on a node of 2025: states under other programs, or other content
%%% under an id. So a slot is compared with the signed message of its process, by content
%%% ids and without loading the state. One forgery passes: a state that a stranger stored
%%% under the real program. The node serves that state to everybody; see SECURITY.md.
%%%
%%% A slot has one event for its result, with the keys `output', `error' and `data', one for
%%% each message of its outbox, one for each event that its output has and, while a client
%%% wants it, its edge (`dev_websocket_edge'). `raw' and `json' repeat the result and are left out. The
%%% `path' of an event is the place to GET the same from the node. The `results-id' and the
%%% `state-id' are content ids.
%%%
%%% Each reading of a slot gives the same events in the same order. So a reader can go on in
%%% the middle of a slot after another one was killed.
-module(dev_websocket_process).
-export([find/2, slot/3, facts/2, scheduled_at/3]).
-export([outbox/1, wanted/1, value/2, result_event/4, message_event/4, line_event/3, plain_message/4, edge_event/2]).

%% A state must have the same program as its process message, in these keys.
-define(DEFINITION, [
    <<"device-stack">>, <<"execution-device">>, <<"module">>, <<"scheduler">>, <<"authority">>
]).
%% Parts of a result that its event has.
-define(PARTS, [<<"output">>, <<"error">>, <<"data">>]).
%% Keys of a state. The signature of a process message covers none of them.
-define(STATE_KEYS, [<<"initialized">>, <<"at-slot">>, <<"results">>]).

%% @doc Find a process. Its message must have a valid signature of this id. The keys that
%% each state must share with it are read once.
%%
%% On nodes of 2025 one request of a stranger can put other content at the id, beside the
%% same signature. A state of the process holds all signed keys as well, so it is tried
%% next. The content that the signature covers is the process, wherever it is stored.
-spec find(dev_websocket_cache:cache(), binary()) -> {ok, map()} | missing | {withheld, atom()}.
find(#{address := Address} = Cache, Id) ->
    case dev_websocket_whole:find(Cache, Id) of
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
            %% A state that fails is read again, as a whole: a key may have been missing.
            case failed(Cache, Process, Slot, Root) =/= [] andalso failed(Cache, Process, Slot, dev_websocket_whole:root(Cache, Root)) of
                [Why | _] -> {withheld, Why};
                _ -> {ok, with_results(Cache, Root, maps:merge(#{process => Id, slot => Slot}, maps:with([is_scheduled_here], Process)))}
            end
    end.

%% @doc The checks that a state fails.
failed(Cache, #{id := Id} = Process, Slot, Root) ->
    Checks = [
        {at_slot, fun() -> dev_websocket_cache:integer_key(Cache, Root, <<"at-slot">>) =:= Slot end},
        {process, fun() -> is_state_of(Cache, Root, Id) end},
        {definition, fun() -> definition(Cache, Root) =:= maps:get(definition, Process) end},
        {not_scheduled, fun() -> not maps:get(is_scheduled_here, Process) orelse dev_websocket_cache:is_scheduled(Cache, Id, Slot) end}
    ],
    [Why || {Why, Holds} <- Checks, not Holds()].

%% @doc Facts about a slot from the scheduler's cache: the id of its `assignment', and the
%% `sender' of its message. The node signs a message from another process, which names that
%% process.
-spec facts(dev_websocket_cache:cache(), map()) -> map().
facts(Cache, #{process := Id, slot := Slot} = Found) ->
    case dev_websocket_cache:assignment(Cache, Id, Slot) of
        missing ->
            %% It was there a moment ago.
            _ = maps:get(is_scheduled_here, Found, false) andalso error({not_whole, assignment}),
            #{};
        Assignment ->
            Facts = case dev_websocket_whole:committers(Cache, Assignment) of
                [{AssignmentId, _}] -> #{assignment => AssignmentId};
                _ -> #{}
            end,
            case body(Cache, Assignment) of
                {link, Body} -> maps:merge(Facts, sender(Cache, {path, Body}));
                _ -> Facts
            end
    end.

%% @doc The link to the message of an assignment, if the assignment has one.
body(Cache, Assignment) ->
    case dev_websocket_cache:reference(Cache, Assignment, <<"body">>) of
        {link, <<_:43/binary>>} = Body -> Body;
        _ -> dev_websocket_cache:reference(Cache, dev_websocket_whole:root(Cache, Assignment), <<"body">>)
    end.

sender(#{address := Address} = Cache, Body) ->
    case dev_websocket_whole:committers(Cache, Body) of
        [{_, Address}] ->
            case settled(Cache, Body, fun(Root) -> dev_websocket_cache:text_key(Cache, Root, <<"from-process">>) end) of
                Sender when is_binary(Sender) -> #{sender => Sender};
                _ -> #{sender => Address}
            end;
        [{_, Sender}] -> #{sender => Sender};
        _ -> #{}
    end.

%% @doc A key of a message. A missing one is looked for again in the whole message.
settled(Cache, Root, Key) ->
    case Key(Root) of
        undefined -> Key(dev_websocket_whole:root(Cache, Root));
        Value -> Value
    end.

%% @doc The time at which a slot was assigned, in milliseconds, or 0 if it is not known.
-spec scheduled_at(dev_websocket_cache:cache(), binary(), non_neg_integer()) -> non_neg_integer().
scheduled_at(Cache, Id, Slot) ->
    case dev_websocket_cache:assignment(Cache, Id, Slot) of
        missing -> 0;
        Assignment ->
            case settled(Cache, Assignment, fun(Root) -> dev_websocket_cache:integer_key(Cache, Root, <<"timestamp">>) end) of
                Time when is_integer(Time), Time > 0 -> Time;
                _ -> 0
            end
    end.

%%% Events.

%% @doc The messages of an outbox with their keys, in order. The outbox is a list, or a map
%% with numbers as keys, which is the form of a list in the cache.
-spec outbox(term()) -> [{binary(), term()}].
outbox(Messages) when is_list(Messages) ->
    numbered(Messages, 1);
outbox(Messages) when is_map(Messages) ->
    Numbered = [
        {Number, Key, Message}
     ||
        {Key, Message} <- maps:to_list(Messages), Number <- [number(Key)], Number =/= none
    ],
    [{Key, Message} || {_, Key, Message} <- lists:sort(Numbered)];
outbox(_) ->
    [].

%% @doc The parts of a result that its event needs.
-spec wanted(map()) -> map().
wanted(Results) ->
    maps:from_list([
        {Key, Value}
     ||
        Key <- [<<"outbox">> | ?PARTS], {ok, Value} <- [value(Key, Results)]
    ]).

%% @doc The event of a result, which `Count' messages follow. A value of more than `Max'
%% bytes is replaced by its size and its path.
-spec result_event(map(), map(), non_neg_integer(), pos_integer()) -> {map(), map()}.
result_event(#{process := Id, slot := Slot} = Facts, Results, Count, Max) ->
    Path = path(Id, Slot),
    Known = [{<<"sender">>, sender}, {<<"results-id">>, results_id}, {<<"state-id">>, state}],
    Event = maps:from_list(
        [{Name, maps:get(Key, Facts)} || {Name, Key} <- Known, is_map_key(Key, Facts)] ++
        [
            {Key, plain(Value, [<<"results">>, Path], Key, Max)}
         ||
            Key <- ?PARTS, {ok, Value} <- [value(Key, Results)]
        ]
    ),
    {
        Event#{
            <<"type">> => <<"result">>,
            <<"process">> => Id,
            <<"slot">> => Slot,
            <<"outbox-count">> => Count
        },
        provenance(Facts, Path)
    }.

%% @doc The event of a message of the outbox. Its sender is always the process.
-spec message_event(map(), binary(), term(), pos_integer()) -> {map(), map()}.
message_event(#{process := Id, slot := Slot} = Facts, Key, Message, Max) ->
    Data =
        case plain_message(Facts, Key, Message, Max) of
            Map when is_map(Map) -> Map#{<<"from">> => Id, <<"process">> => Id};
            Other -> #{<<"data">> => Other, <<"from">> => Id, <<"process">> => Id}
        end,
    Provenance = provenance(Facts, <<(path(Id, Slot))/binary, "/results/outbox/", Key/binary>>),
    {Data, Provenance#{from => [Id]}}.

%% @doc The event of a line of an output. The path leads to the whole text. The engine reads
%% the line, and sets the sender and the process of its data as in `message_event/4'.
-spec line_event(map(), binary(), binary()) -> {{json, binary()}, map()}.
line_event(#{process := Id, slot := Slot} = Facts, Place, Line) ->
    Provenance = provenance(Facts, <<(path(Id, Slot))/binary, "/results/", Place/binary>>),
    {{json, Line}, Provenance#{from => [Id]}}.

%% @doc A message of the outbox as its event has it.
-spec plain_message(map(), binary(), term(), pos_integer()) -> term().
plain_message(#{process := Id, slot := Slot}, Key, Message, Max) ->
    plain(Message, [<<"results">>, path(Id, Slot)], <<"outbox/", Key/binary>>, Max).

%% @doc The event of an edge with this node.
-spec edge_event(map(), map() | too_large) -> {map(), map()}.
edge_event(Facts, too_large) ->
    #{path := Path} = edge_provenance(Facts),
    edge_event(Facts, #{<<"$omitted">> => <<"too_large">>, <<"$get">> => Path});
edge_event(#{slot := Slot} = Facts, Node) ->
    {#{<<"cursor">> => integer_to_binary(Slot), <<"node">> => Node}, edge_provenance(Facts)}.

edge_provenance(#{process := Id, slot := Slot} = Facts) ->
    (provenance(Facts, path(Id, Slot)))#{is_edge => true}.

%% @doc The path at which the node returns a slot.
path(Id, Slot) ->
    <<"/", Id/binary, "~process@1.0/compute&slot=", (integer_to_binary(Slot))/binary>>.

%%% Private functions.

%% @doc Whether one of the keys for a scheduler names the address of this node.
is_scheduler(Cache, Root, Address) ->
    is_binary(Address) andalso
        lists:any(
            fun(Key) -> dev_websocket_cache:text_key(Cache, Root, Key) =:= Address end,
            [<<"scheduler">>, <<"scheduler-location">>]
        ).

%% @doc The commitment of this id. Anybody may have added other commitments to the message,
%% and they prove nothing.
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
    case dev_websocket_node:id(dev_websocket_whole:load_all(Cache, Unsigned), Opts) =:= {ok, Id} of
        true -> {ok, Unsigned};
        false -> error
    end;
signed(Message, Id, Commitment, #{opts := Opts} = Cache) ->
    Covered = covered(Message, Commitment),
    Loaded = dev_websocket_whole:load_all(Cache, Covered),
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
            dev_websocket_whole:message(Cache, Path)
    end.

is_state_of(Cache, Root, Id) ->
    case dev_websocket_cache:reference(Cache, Root, <<"process">>) of
        {link, Id} -> true;
        {link, Other} -> same(Cache, Other, Id);
        _ -> false
    end.

%% @doc Whether two ids belong to one message: both lead to the same path.
same(Cache, One, Other) ->
    Place = fun(Id) -> dev_websocket_cache:place(Cache, <<Id/binary, "/commitments">>) end,
    Place(One) =:= Place(Other).

definition(Cache, Root) ->
    [dev_websocket_cache:reference(Cache, Root, Key) || Key <- ?DEFINITION].

with_results(Cache, Root, Slot) ->
    %% The path of a state is its id.
    WithState = case dev_websocket_cache:path(Root) of
        {ok, Id} when byte_size(Id) =:= 43 -> Slot#{state => Id};
        _ -> Slot
    end,
    case dev_websocket_cache:results(Cache, Root) of
        {value, Results} when is_map(Results) ->
            WithState#{results => Results};
        Link ->
            case whole_link(Cache, Root, Link) of
                {link, ResultsId} ->
                    #{} = Results = dev_websocket_whole:message(Cache, ResultsId),
                    WithState#{results => Results, results_id => ResultsId};
                _ ->
                    WithState#{results => #{}}
            end
    end.

%% @doc A link with an id, or what the whole state has in its place: a state without results
%% is rare, and a torn one looks the same.
whole_link(_Cache, _Root, {link, <<_:43/binary>>} = Link) -> Link;
whole_link(Cache, Root, _Torn) -> dev_websocket_cache:results(Cache, dev_websocket_whole:root(Cache, Root)).

provenance(#{process := Id, slot := Slot} = Facts, Path) ->
    maps:merge(#{process => Id, slot => Slot, path => Path}, maps:with([assignment], Facts)).

%% @doc The end of an improper list is not a message.
numbered([Message | Rest], Number) -> [{integer_to_binary(Number), Message} | numbered(Rest, Number + 1)];
numbered(_, _Number) -> [].

number(Key) when is_binary(Key) ->
    try binary_to_integer(Key)
    catch error:badarg -> none
    end;
number(_) ->
    none.

%% @doc The value of a key, in any letter case.
-spec value(binary(), map()) -> {ok, term()} | none.
value(Key, Map) ->
    case Map of
        #{Key := Value} ->
            {ok, Value};
        _ ->
            case [Value || {Name, Value} <- maps:to_list(Map), lower(Name) =:= Key] of
                [Value | _] -> {ok, Value};
                [] -> none
            end
    end.

%% @doc A value in the form of the cache, with keys in lower case. A binary that is too large
%% is replaced by its size and its path. The path is kept as a list of parts, last first,
%% because few values need it.
plain(Value, Place, Key, Max) when is_binary(Value) ->
    case byte_size(Value) > Max of
        true -> #{<<"$size">> => byte_size(Value), <<"$get">> => place([Key | Place])};
        false -> Value
    end;
plain(Map, Place, Key, Max) when is_map(Map) ->
    plain_entries(maps:to_list(Map), Map, [Key | Place], Max, []);
plain([Head | Tail], Place, Key, Max) when is_list(Tail) ->
    [plain(Head, Place, Key, Max) | plain(Tail, Place, Key, Max)];
%% The part was too large to load.
plain({link, _, _}, Place, Key, _Max) ->
    #{<<"$get">> => place([Key | Place])};
plain(Value, _Place, _Key, _Max) ->
    Value.

plain_entries([], _Map, _Place, _Max, Plain) ->
    maps:from_list(Plain);
plain_entries([{Key, Value} | Entries], Map, Place, Max, Plain) ->
    Name = lower(Key),
    %% Of two keys that differ in letter case alone, the one in lower case is used.
    case Name =:= Key orelse not is_map_key(Name, Map) of
        true -> plain_entries(Entries, Map, Place, Max, [{Name, plain(Value, Place, Name, Max)} | Plain]);
        false -> plain_entries(Entries, Map, Place, Max, Plain)
    end.

%% @doc The path of a value. Keys other than binaries are left out.
place([Path]) -> Path;
place([Key | Place]) when is_binary(Key) -> <<(place(Place))/binary, "/", Key/binary>>;
place([_ | Place]) -> place(Place).

lower(Key) when is_binary(Key) ->
    case is_lower(Key) of
        true -> Key;
        false ->
            try string:lowercase(Key)
            catch error:_ -> Key
            end
    end;
lower(Key) ->
    Key.

is_lower(<<Character, Rest/binary>>) when Character < $A; Character > $Z, Character < 128 -> is_lower(Rest);
is_lower(<<>>) -> true;
is_lower(_) -> false.
