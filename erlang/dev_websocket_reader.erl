%%% @doc One turn of reading a process's results and publishing them, in a process of its
%%% own: it may take long, and a store may hang.
%%%
%%% How far a process is published, its mark, is kept by the engine, which takes each part
%%% of a slot once and in order. So a reader that is killed anywhere repeats nothing and
%%% loses nothing: the next one asks for the mark and goes on there.
%%%
%%% A slot is published in chunks, so that one with thousands of messages neither fills the
%%% memory nor holds up the engine.
-module(dev_websocket_reader).
-export([attach/3, turn/3]).

%% Slots that a turn publishes at most, so that processes take turns.
-define(MAX_SLOTS, 100).
%% Parts and bytes of a chunk.
-define(MAX_PARTS, 100).
-define(MAX_CHUNK_BYTES, 1024 * 1024).
%% Bytes of one part that are loaded. The rest is named by its place.
-define(MAX_PART_BYTES, 5 * 1024 * 1024).

-type outcome() :: more | caught_up | busy | {withheld, process | non_neg_integer(), atom()} |
    {unreadable, process | non_neg_integer(), atom()} | {stopped, term()}.
-export_type([outcome/0]).

%% @doc Find the first slot to publish of a process: the first of the newest slots that were
%% scheduled at `Since' or later, in milliseconds since 1970, or the one behind the newest.
%% With a mark, a gap tells the slots between.
-spec attach(dev_websocket_cache:cache(), binary(), integer() | infinity) -> ok | {error, term()}.
attach(Cache, Id, Since) ->
    try begin_with(Cache, Id, Since)
    catch _:_ -> {error, not_readable}
    end.

%% @doc Publish the new slots of a process: first those that were missing before, then those
%% from its mark on.
-spec turn(dev_websocket_cache:cache(), binary(), map() | unknown) -> {outcome(), map() | unknown}.
turn(Cache, Id, Process) ->
    try read(Cache, Id, Process)
    catch
        %% An error of a store may hold options of the node, and is not passed on.
        _:_ -> {{unreadable, process, not_readable}, Process}
    end.

%%% Private functions.

begin_with(Cache, Id, Since) ->
    case hb_websocket_nif:slot_mark(Id) of
        none ->
            Newest = dev_websocket_cache:newest_slot(Cache, Id, 0),
            Begin = first_of(Cache, Id, Newest, Since),
            attached(hb_websocket_nif:set_slot_mark(Id, Begin));
        {ok, Slot, Part, _Holes} ->
            %% A slot that is published in part is finished in any case.
            First = case Part of 0 -> Slot; _ -> Slot + 1 end,
            Newest = dev_websocket_cache:newest_slot(Cache, Id, First),
            Begin = first_of(Cache, Id, Newest, Since),
            case Part =:= 0 andalso Begin > Slot of
                true -> attached(hb_websocket_nif:publish_slot_gap(Id, Slot, Begin - 1, not_followed));
                false -> ok
            end;
        Error ->
            Error
    end.

read(Cache, Id, unknown) ->
    case dev_websocket_process:find(Cache, Id) of
        {ok, Process} -> read(Cache, Id, Process);
        {withheld, Why} -> {{withheld, process, Why}, unknown};
        missing -> {{withheld, process, no_process_message}, unknown}
    end;
read(Cache, Id, Process) ->
    #{max_data_bytes := Max} = hb_websocket_nif:settings(),
    Publish = fun(Slot, Part) -> publish(Cache, Process, Slot, Part, Max) end,
    %% Without a mark it was followed before it had slots.
    Outcome = case hb_websocket_nif:set_slot_mark(Id, 0) of
        {ok, Slot, Part, Holes} ->
            _ = [late(Cache, Id, From, To, Publish) || {From, To} <- Holes],
            forward(Slot, Part, Publish, ?MAX_SLOTS);
        {error, Reason} ->
            {stopped, Reason}
    end,
    {Outcome, Process}.

attached({ok, _, _, _}) -> ok;
attached(ok) -> ok;
attached(Error) -> {error, Error}.

%% @doc The scheduler's time decides: no other time is in the cache.
first_of(Cache, Id, Newest, Since) ->
    fresh(Cache, Id, Newest, max(0, Newest + 1 - ?MAX_SLOTS), Since).

fresh(_Cache, _Id, Slot, First, _Since) when Slot < First ->
    First;
fresh(Cache, Id, Slot, First, Since) ->
    case dev_websocket_process:scheduled_at(Cache, Id, Slot) >= Since of
        true -> fresh(Cache, Id, Slot - 1, First, Since);
        false -> Slot + 1
    end.

%% @doc Publish slots of a hole that have appeared. A failure is tried again later.
late(_Cache, _Id, From, To, _Publish) when From > To ->
    ok;
late(Cache, Id, From, To, Publish) ->
    case dev_websocket_cache:has_slot(Cache, Id, From) andalso Publish(From, 0) of
        ok -> late(Cache, Id, From + 1, To, Publish);
        _ -> ok
    end.

forward(_Slot, _Part, _Publish, 0) ->
    more;
forward(Slot, Part, Publish, Left) ->
    case Publish(Slot, Part) of
        ok -> forward(Slot + 1, 0, Publish, Left - 1);
        missing -> caught_up;
        Other -> Other
    end.

%% @doc Publish a slot from a part on.
publish(Cache, #{id := Id} = Process, Slot, Part, Max) ->
    try dev_websocket_process:slot(Cache, Process, Slot) of
        {ok, #{results := Results} = Found} ->
            {Wanted, _} = dev_websocket_cache:load(
                Cache, maps:remove(<<"outbox">>, dev_websocket_result:wanted(Results)), ?MAX_PART_BYTES
            ),
            Outbox = dev_websocket_result:outbox(one_layer(Cache, maps:get(<<"outbox">>, dev_websocket_result:wanted(Results), []))),
            Facts = maps:merge(Found, dev_websocket_process:facts(Cache, Id, Slot)),
            Event = dev_websocket_result:result_event(Facts, Wanted, length(Outbox), Max),
            publish_parts([{result, Event} | Outbox], Cache, Facts, Part, Max);
        missing ->
            missing;
        {withheld, Why} ->
            {withheld, Slot, Why}
    catch
        %% An error of a store may hold options of the node, and is not passed on.
        _:_ -> {unreadable, Slot, not_readable}
    end.

one_layer(Cache, Link) when element(1, Link) =:= link -> dev_websocket_cache:ensure(Cache, Link);
one_layer(_Cache, Value) -> Value.

publish_parts(Parts, Cache, Facts, Part, Max) when Part < length(Parts) ->
    publish_chunks(lists:nthtail(Part, Parts), Cache, Facts, Part, Max);
publish_parts(_Parts, _Cache, #{process := Id, slot := Slot}, Part, _Max) ->
    %% All parts were published before a crash; only the end of the slot was not.
    published(hb_websocket_nif:publish_slot(Id, Slot, Part, [], true), Slot).

publish_chunks(Parts, Cache, #{process := Id, slot := Slot} = Facts, Part, Max) ->
    {Events, Rest} = chunk(Parts, Cache, Facts, Max, ?MAX_PARTS, ?MAX_CHUNK_BYTES, []),
    IsLast = Rest =:= [],
    Published =
        case hb_websocket_nif:publish_slot(Id, Slot, Part, Events, IsLast) of
            large -> hb_websocket_nif:publish_slot_large(Id, Slot, Part, Events, IsLast);
            Answer -> Answer
        end,
    case published(Published, Slot) of
        ok when IsLast -> ok;
        ok -> publish_chunks(Rest, Cache, Facts, Part + length(Events), Max);
        Other -> Other
    end.

chunk([], _Cache, _Facts, _Max, _Parts, _Bytes, Events) ->
    {lists:reverse(Events), []};
chunk(Rest, _Cache, _Facts, _Max, Parts, Bytes, [_ | _] = Events) when Parts =:= 0; Bytes =< 0 ->
    {lists:reverse(Events), Rest};
chunk([{result, Event} | Rest], Cache, Facts, Max, Parts, Bytes, Events) ->
    chunk(Rest, Cache, Facts, Max, Parts - 1, Bytes, [Event | Events]);
chunk([{Key, Lazy} | Rest], Cache, Facts, Max, Parts, Bytes, Events) ->
    {Message, Left} = dev_websocket_cache:load(Cache, Lazy, ?MAX_PART_BYTES),
    Event = dev_websocket_result:message_event(Facts, Key, Message, Max),
    chunk(Rest, Cache, Facts, Max, Parts - 1, Bytes - (?MAX_PART_BYTES - Left), [Event | Events]).

published(ok, _Slot) -> ok;
published({dropped, repeated}, _Slot) -> ok;
published({dropped, overload}, _Slot) -> busy;
%% Another reader was faster: the next turn begins at the mark.
published({error, {expected, _, _}}, _Slot) -> more;
published({dropped, Reason}, Slot) -> {unreadable, Slot, Reason};
published({error, Reason}, _Slot) -> {stopped, Reason}.
