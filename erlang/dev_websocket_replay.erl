%%% @doc One turn of a slot replay: the next slot that one client gets again from the cache.
%%%
%%% A turn runs in a reader process of its own, and hands over one slot, or one chunk of a
%%% large slot. The engine keeps the progress and takes each event once. A reader that is
%%% killed therefore repeats and loses nothing.
%%%
%%% A replay reads up to the mark of its process: the slots that the tail has published, or
%%% found too old to publish. There the engine lets the client go live, if the mark has not
%%% moved on. A missing slot is never waited for here, because the tail has done that.
-module(dev_websocket_replay).
-export([new/2, turn/2]).

%% Slots that one turn looks at to find the end of a hole.
-define(MAX_PROBES, 1000).

%% A replay as its server keeps it: the number of the engine, the process and the next event.
-type replay() :: map().
%% `sent': the engine has something for the client, and tells when to go on. `lost': it
%% wanted something else, and tells what. `wait': the tail is about to publish a slot.
-type outcome() :: sent | lost | ended | wait |
    {failed, missing | withheld | unreadable, non_neg_integer()}.
-export_type([replay/0, outcome/0]).

%% @doc A replay of the slots of a process.
-spec new(non_neg_integer(), binary()) -> replay().
new(Number, Id) ->
    #{
        number => Number,
        id => Id,
        slot => 0,
        part => 0,
        %% The cache, once the process is followed.
        cache => unknown,
        process => unknown,
        %% {Slot, Since}: the slot failed, for the first time at this time.
        retry => none,
        %% The slot behind the last gap.
        gap_until => none,
        %% Slots in a row that could not be read.
        unreadable => 0
    }.

%% @doc Take the next step. The process is part of the answer, so that it is verified once.
-spec turn(dev_websocket_cache:cache(), replay()) -> {outcome(), map() | unknown}.
turn(Cache, #{slot := Slot, process := Known} = Replay) ->
    Unreadable = {{failed, unreadable, Slot}, Known},
    dev_websocket_log:safely(replay, fun() -> step(Cache, Replay) end, Unreadable).

%%% Private functions.

step(Cache, #{id := Id, process := unknown, number := Number} = Replay) ->
    case dev_websocket_process:find(Cache, Id) of
        {ok, Process} ->
            first_step(Cache, Replay#{process := Process});
        missing ->
            {taken(hb_websocket_nif:replay_failed(Number, unknown_process)), unknown};
        {withheld, _} ->
            {Next, Part} = mark(Cache, Id),
            {withhold(Replay, published(Next, Part)), unknown}
    end;
step(Cache, #{id := Id, process := Process} = Replay) ->
    {next_step(Cache, Replay, mark(Cache, Id)), Process}.

%% @doc A replay has at most `max_replay_slots' slots, the newest ones.
first_step(Cache, #{id := Id, number := Number, slot := Slot, process := Process} = Replay) ->
    #{max_replay_slots := Max} = hb_websocket_nif:settings(),
    {Next, Part} = Mark = mark(Cache, Id),
    First = published(Next, Part) - Max,
    case Slot < First of
        true -> {taken(hb_websocket_nif:replay_gap(Number, Slot, First - 1, not_replayed)), Process};
        false -> {next_step(Cache, Replay, Mark), Process}
    end.

%% @doc All slots of a process without a valid message are withheld.
withhold(#{number := Number, slot := Slot}, End) when Slot >= End ->
    taken(hb_websocket_nif:replay_live(Number));
withhold(_Replay, End) ->
    {failed, withheld, End - 1}.

next_step(_Cache, #{slot := Slot}, {Next, NextPart}) when Slot =:= Next + 1, NextPart > 0 ->
    %% The tail publishes the rest of a slot that this replay has read.
    wait;
next_step(_Cache, #{number := Number, slot := Slot, part := Part}, {Next, NextPart}) when
    Slot > Next; Slot =:= Next, NextPart =:= 0, Part =:= 0
->
    taken(hb_websocket_nif:replay_live(Number));
next_step(Cache, Replay, {Next, NextPart}) ->
    #{number := Number, slot := Slot, part := Part, process := Process} = Replay,
    #{max_data_bytes := Max} = hb_websocket_nif:settings(),
    %% One chunk is sent. The client has to take it before the next one.
    Sent = dev_websocket_slot:send(Cache, Process, {Slot, Part}, Max, fun(From, Events, IsLast) ->
        {answer, replay_slot(Number, Slot, From, Events, IsLast)}
    end),
    case Sent of
        {answer, {dropped, _}} -> {failed, unreadable, Slot};
        {answer, Answer} -> taken(Answer);
        {withheld, Slot, _} -> {failed, withheld, Slot};
        %% The tail has yet to publish the rest of a slot that the client has in part.
        missing when Slot >= Next, NextPart =:= 0 -> taken(hb_websocket_nif:replay_live(Number));
        missing -> {failed, missing, hole(Cache, Replay, published(Next, NextPart))};
        _ -> {failed, unreadable, Slot}
    end.

replay_slot(Number, Slot, Part, Events, IsLast) ->
    case hb_websocket_nif:replay_slot(Number, Slot, Part, Events, IsLast) of
        large -> hb_websocket_nif:replay_slot_large(Number, Slot, Part, Events, IsLast);
        Answer -> Answer
    end.

taken(ok) -> sent;
taken({error, {expected, _, _}}) -> lost;
taken({error, _}) -> ended.

%% @doc The last slot of a hole. At first sight only the slot itself counts, because the store
%% may be making its link anew.
hole(_Cache, #{slot := Slot, retry := none, gap_until := Until}, _End) when Slot =/= Until ->
    Slot;
hole(Cache, #{id := Id, slot := Slot}, End) ->
    last_missing(Cache, Id, Slot, min(End - 1, Slot + ?MAX_PROBES)).

last_missing(_Cache, _Id, Slot, Last) when Slot >= Last ->
    Slot;
last_missing(Cache, Id, Slot, Last) ->
    case dev_websocket_cache:has_slot(Cache, Id, Slot + 1) of
        true -> Slot;
        false -> last_missing(Cache, Id, Slot + 1, Last)
    end.

%% @doc The next event that the tail publishes. A process that was followed before it had
%% slots has no mark yet.
mark(Cache, Id) ->
    Mark = case hb_websocket_nif:slot_mark(Id) of
        none -> hb_websocket_nif:set_slot_mark(Id, dev_websocket_cache:newest_slot(Cache, Id, 0) + 1);
        Known -> Known
    end,
    {ok, Slot, Part, _Holes} = Mark,
    {Slot, Part}.

%% @doc The slot behind those that are published, at least in part.
published(Slot, 0) -> Slot;
published(Slot, _Part) -> Slot + 1.
