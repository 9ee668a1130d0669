%%% @doc One slot of the cache as events, in the chunks that the engine takes. All events of
%%% processes are made here, of new and of replayed slots.
%%%
%%% A slot with thousands of messages is handed over in chunks, so that it neither fills the
%%% memory nor holds up the engine.
-module(dev_websocket_slot).
-export([send/5]).

%% Events and bytes of a chunk.
-define(MAX_PARTS, 100).
-define(MAX_CHUNK_BYTES, 1024 * 1024).
%% Bytes of one event that are loaded. The rest is replaced by its path.
-define(MAX_PART_BYTES, 5 * 1024 * 1024).

%% Gets the part of the first event, `{Message, Provenance}' of each event, and whether the
%% last one ends the slot. Any answer but `ok' ends the call.
-type sink() :: fun((non_neg_integer(), [{map() | {json, binary()}, map()}], boolean()) -> ok | term()).

%% @doc Hand the events of a slot over, from a part on. Values of more than `Max' bytes are
%% replaced by their size and their path.
-spec send(dev_websocket_cache:cache(), map(), {non_neg_integer(), non_neg_integer()}, pos_integer(), sink()) ->
    missing | {withheld, non_neg_integer(), atom()} | {unreadable, non_neg_integer(), atom()} | term().
send(Cache, Process, {Slot, Part}, Max, Sink) ->
    Unreadable = {unreadable, Slot, not_readable},
    case dev_websocket_log:safely(slot, fun() -> dev_websocket_process:slot(Cache, Process, Slot) end, Unreadable) of
        {ok, Found} ->
            dev_websocket_log:safely(publish, fun() -> send_found(Found, Cache, Part, Max, Sink) end, Unreadable);
        {withheld, Why} ->
            {withheld, Slot, Why};
        Other ->
            Other
    end.

%%% Private functions.

send_found(#{results := Results} = Found, Cache, Part, Max, Sink) ->
    Parts = dev_websocket_process:wanted(Results),
    {Wanted, Left} = dev_websocket_whole:load(Cache, maps:remove(<<"outbox">>, Parts), ?MAX_PART_BYTES),
    Outbox = dev_websocket_process:outbox(dev_websocket_whole:open(Cache, maps:get(<<"outbox">>, Parts, []))),
    Facts = maps:merge(Found, dev_websocket_process:facts(Cache, Found)),
    {Lines, _} = Printed = dev_websocket_output:events(Wanted),
    {Data, Provenance} = dev_websocket_process:result_event(Facts, Wanted, length(Outbox), Max),
    Event = {dev_websocket_output:told(Printed, Data), Provenance},
    {Messages, Edge} = with_edge(Cache, Facts, {Data, Left}, Outbox, Max),
    send_parts([{result, Event} | Messages ++ Lines ++ Edge], Cache, Facts, Part, Max, Sink).

%% @doc The messages, and the edge while a client wants it. It is the last event of a slot, so
%% the others have the same places with and without it.
with_edge(Cache, #{process := Id} = Facts, Result, Outbox, Max) ->
    case hb_websocket_nif:wants_edges(Id) of
        true ->
            {Edge, Rest, Loaded} = dev_websocket_edge:of_slot(Cache, Facts, Result, Outbox, Max),
            {Loaded, [{edge, Edge, ?MAX_PART_BYTES - max(0, Rest)}]};
        _ ->
            {Outbox, []}
    end.

send_parts(Parts, Cache, Facts, Part, Max, Sink) when Part < length(Parts) ->
    send_chunks(lists:nthtail(Part, Parts), Cache, Facts, Part, Max, Sink);
send_parts(_Parts, _Cache, _Facts, Part, _Max, Sink) ->
    %% All events were handed over, but not the end of the slot.
    Sink(Part, [], true).

send_chunks(Parts, Cache, Facts, Part, Max, Sink) ->
    {Events, Rest} = chunk(Parts, Cache, Facts, Max, ?MAX_PARTS, ?MAX_CHUNK_BYTES, []),
    IsLast = Rest =:= [],
    case Sink(Part, Events, IsLast) of
        ok when not IsLast -> send_chunks(Rest, Cache, Facts, Part + length(Events), Max, Sink);
        Answer -> Answer
    end.

chunk([], _Cache, _Facts, _Max, _Parts, _Bytes, Events) ->
    {lists:reverse(Events), []};
chunk(Rest, _Cache, _Facts, _Max, Parts, Bytes, [_ | _] = Events) when Parts =:= 0; Bytes =< 0 ->
    {lists:reverse(Events), Rest};
chunk([{edge, _, Size} | _] = Rest, _Cache, _Facts, _Max, _Parts, Bytes, [_ | _] = Events) when Size > Bytes ->
    {lists:reverse(Events), Rest};
chunk([{edge, Event, Size} | Rest], Cache, Facts, Max, Parts, Bytes, Events) ->
    chunk(Rest, Cache, Facts, Max, Parts - 1, Bytes - Size, [Event | Events]);
chunk([{result, Event} | Rest], Cache, Facts, Max, Parts, Bytes, Events) ->
    chunk(Rest, Cache, Facts, Max, Parts - 1, Bytes, [Event | Events]);
chunk([{line, Place, Line} | Rest], Cache, Facts, Max, Parts, Bytes, Events) ->
    Event = dev_websocket_process:line_event(Facts, Place, Line),
    chunk(Rest, Cache, Facts, Max, Parts - 1, Bytes - byte_size(Line), [Event | Events]);
chunk([{Key, Lazy} | Rest], Cache, Facts, Max, Parts, Bytes, Events) ->
    {Message, Left} = dev_websocket_whole:load(Cache, Lazy, ?MAX_PART_BYTES),
    Event = dev_websocket_process:message_event(Facts, Key, Message, Max),
    chunk(Rest, Cache, Facts, Max, Parts - 1, Bytes - (?MAX_PART_BYTES - Left), [Event | Events]).
