%%% @doc One followed process, a tail: its next action, and the reading of its slots.
%%%
%%% The first part decides. It reads the cache and the mark of the engine, and
%%% `dev_websocket_tails' carries out the action:
%%%
%%% | action | meaning |
%%% |---|---|
%%% | `none' | There is nothing to do. |
%%% | `attach' | The process has slots: set the first one to publish. |
%%% | `read' | A slot can be published. |
%%% | `{gap, From, To, Reason, Why}' | Publish a gap for these slots, and go on behind them. |
%%%
%%% The node writes its cache asynchronously and in any order, so a missing slot may still
%%% come. A slot that is missing while a later one exists is a hole after 5 seconds. A slot
%%% that failed the checks is read again for 2 seconds before it is withheld. Slots of a hole
%%% that come later are published then.
%%%
%%% The second part, `attach/3' and `read/3', runs in a reader process. The engine keeps the
%%% mark of a process, how far it is published, and takes each event of a slot once and in
%%% order. A reader that is killed therefore repeats and loses nothing: the next one goes on
%%% at the mark.
-module(dev_websocket_tail).
-export([new/3, probe/3, probe_failed/2, mark_busy/2, postpone/2, attach_done/2, attach_failed/2, read_done/5]).
-export([attach/3, read/3]).
-export([next/1, process/1, busy_since/1, is_active/1, is_postponed/1, due/3, places/1]).

%% Time before a gap reports a hole, a refused slot or an unreadable slot, in milliseconds.
-define(HOLE, 5_000).
-define(REFUSAL, 2_000).
-define(UNREADABLE, 5_000).
%% Pause before a refused or unreadable slot is read again, in milliseconds.
-define(AGAIN, 400).
%% Pause between two searches for a later slot, in milliseconds, and their reach in slots.
-define(SEARCH, 5_000).
-define(LONGEST_PAUSE, 60_000).
-define(REACH, 1 bsl 20).
%% A tail with this pause is quiet, so after 15 seconds without news. It is then probed only
%% once per period, in milliseconds. The period grows with the number of quiet tails, so that
%% their probes have a bound.
-define(QUIET_PAUSE, 4 * ?SEARCH).
-define(QUIET, 1_000).
-define(QUIET_EACH, 10).

%% Slots that a reader publishes at most, so that processes take turns.
-define(MAX_SLOTS, 100).

-type tail() :: map().
-type action() :: none | attach | read |
    {gap, non_neg_integer(), non_neg_integer(), not_cached | withheld, term()}.
-type outcome() :: more | caught_up | busy | {withheld, process | non_neg_integer(), atom()} |
    {unreadable, process | non_neg_integer(), atom()} | {stopped, term()}.
-export_type([tail/0, action/0, outcome/0]).

%% @doc A process that is followed from now on. `Next' is its next slot or `unknown'.
-spec new(binary(), non_neg_integer() | unknown, integer()) -> tail().
new(Id, Next, Now) ->
    #{
        id => Id,
        %% The next slot to publish.
        next => Next,
        %% First slots of the holes that gaps reported.
        holes => [],
        busy_since => idle,
        process => unknown,
        searched => Now,
        %% The pause before the next search. It grows while the process is idle.
        pause => ?SEARCH,
        %% The time when a later slot was found behind the next one.
        hole_since => none,
        %% {Slot, Since, NotBefore}: read the slot again, but not before that time.
        retry => none
    }.

-spec next(tail()) -> non_neg_integer() | unknown.
next(#{next := Next}) -> Next.

-spec process(tail()) -> map() | unknown.
process(#{process := Process}) -> Process.

%% @doc The time at which it began to wait for a reader, or `idle'.
-spec busy_since(tail()) -> integer() | idle.
busy_since(#{busy_since := Since}) -> Since.

%% @doc Whether the process has slots.
-spec is_active(tail()) -> boolean().
is_active(#{next := Next}) -> is_integer(Next) andalso Next > 0.

%% @doc The ids to probe in pass `Number', and the ids without slots. Passes are `Interval'
%% milliseconds apart. A quiet tail is in one pass per second, or in fewer if there are more
%% than 100.
-spec due(#{binary() => tail()}, non_neg_integer(), pos_integer()) -> {[binary()], [binary()]}.
due(Tails, Number, Interval) ->
    {Active, Dormant} = lists:partition(fun({_, Tail}) -> is_active(Tail) end, maps:to_list(Tails)),
    {Quiet, Busy} = lists:partition(fun({_, #{pause := Pause}}) -> Pause >= ?QUIET_PAUSE end, Active),
    Parts = max(1, max(?QUIET, ?QUIET_EACH * length(Quiet)) div Interval),
    Due = [Id || {Id, _} <- Quiet, erlang:phash2(Id, Parts) =:= Number rem Parts],
    {[Id || {Id, _} <- Busy] ++ Due, [Id || {Id, _} <- Dormant]}.

%% @doc The number of tails that have slots, or are about to be read.
-spec places(#{binary() => tail()}) -> non_neg_integer().
places(Tails) ->
    maps:fold(
        fun(_, Tail, N) ->
            case is_active(Tail) orelse busy_since(Tail) =/= idle of
                true -> N + 1;
                false -> N
            end
        end,
        0,
        Tails
    ).

%% @doc Decide the next action. `Now' is monotonic, in milliseconds.
-spec probe(tail(), dev_websocket_cache:cache(), integer()) -> {action(), tail()}.
probe(#{busy_since := Since} = Tail, _Cache, _Now) when Since =/= idle ->
    {none, Tail};
probe(#{retry := {_, _, NotBefore}} = Tail, _Cache, Now) when Now < NotBefore ->
    {none, Tail};
probe(#{id := Id, next := unknown} = Tail, Cache, _Now) ->
    %% A process without slots begins with slot 0.
    case hb_websocket_nif:slot_mark(Id) =:= none andalso not dev_websocket_cache:has_slot(Cache, Id, 0) of
        true -> {none, Tail#{next := 0}};
        false -> {attach, Tail}
    end;
probe(#{id := Id, next := Next} = Tail, Cache, Now) ->
    case dev_websocket_cache:has_slot(Cache, Id, Next) of
        true -> {read, Tail#{hole_since := none}};
        false -> missing(Tail, Cache, Now)
    end.

%% @doc The probe raised: search later for slots behind a missing one, with longer pauses. The
%% id may be of no process, and its message never whole.
-spec probe_failed(tail(), integer()) -> tail().
probe_failed(Tail, Now) -> with_longer_pause(Tail#{searched := Now}).

%% @doc The tail waits for a reader.
-spec mark_busy(tail(), integer()) -> tail().
mark_busy(Tail, Now) -> Tail#{busy_since := Now}.

%% @doc All places are taken: do nothing before that time.
-spec postpone(tail(), integer()) -> tail().
postpone(Tail, NotBefore) -> Tail#{retry := {no_place, NotBefore, NotBefore}}.

%% @doc Whether the tail waits for a place.
-spec is_postponed(tail()) -> boolean().
is_postponed(#{retry := {no_place, _, _}}) -> true;
is_postponed(_) -> false.

%% @doc The first slot is set, or a gap was published.
-spec attach_done(tail(), integer()) -> tail().
attach_done(Tail, Now) -> with_mark(Tail#{busy_since := idle, searched := Now, pause := ?SEARCH, retry := none}).

%% @doc The first slot could not be set: try again, but not at once, because the store may be
%% broken for good.
-spec attach_failed(tail(), integer()) -> tail().
attach_failed(Tail, Now) -> Tail#{busy_since := idle, retry := {attach, Now, Now + ?AGAIN}}.

%% @doc A reader has ended.
-spec read_done(tail(), outcome(), map() | unknown, dev_websocket_cache:cache(), integer()) ->
    {action(), tail()}.
read_done(Tail, Outcome, Process, Cache, Now) ->
    Updated = with_mark(Tail#{busy_since := idle, process := Process}),
    case Outcome of
        more -> {read, Updated#{retry := none}};
        %% The node may write one slot late: search for later ones soon.
        caught_up -> {none, Updated#{retry := none, searched := Now - ?SEARCH + 1_000, pause := ?SEARCH}};
        busy -> {none, Updated};
        {stopped, _} -> {none, Updated};
        {withheld, Slot, Why} -> retry(Updated, Slot, Why, {?REFUSAL, withheld}, Cache, Now);
        {unreadable, Slot, Why} -> retry(Updated, Slot, Why, {?UNREADABLE, not_cached}, Cache, Now)
    end.

%%% Reading, in a process of its own, because it takes long and a store may hang.

%% @doc Set the first slot to publish: the first of the newest slots that were scheduled at
%% `Since' or later (milliseconds since 1970), or the slot behind the newest. If the process
%% has a mark, a gap reports the slots between.
-spec attach(dev_websocket_cache:cache(), binary(), integer() | infinity) -> ok | {error, term()}.
attach(Cache, Id, Since) ->
    dev_websocket_log:safely(attach, fun() -> set_first(Cache, Id, Since) end, {error, not_readable}).

%% @doc Publish the new slots of a process: first slots that were missing before, then the
%% slots from its mark on. An error of the store may hold options of the node, so it is not
%% part of the outcome.
-spec read(dev_websocket_cache:cache(), binary(), map() | unknown) -> {outcome(), map() | unknown}.
read(Cache, Id, Process) ->
    dev_websocket_log:safely(
        read, fun() -> read_slots(Cache, Id, Process) end, {{unreadable, process, not_readable}, Process}
    ).

%%% Private functions.

%% @doc Take over the mark of the engine: how far the process is published.
with_mark(#{id := Id} = Tail) ->
    case hb_websocket_nif:slot_mark(Id) of
        {ok, Slot, _Part, Holes} -> Tail#{next := Slot, holes := [From || {From, _} <- Holes]};
        _ -> Tail
    end.

missing(#{hole_since := Since} = Tail, Cache, Now) when Since =/= none, Now - Since >= ?HOLE ->
    #{next := Next} = Tail,
    case later(Tail, Cache) of
        {{ok, Later}, Known} -> {{gap, Next, Later - 1, not_cached, hole}, Known#{hole_since := none}};
        {none, Known} -> {none, Known#{hole_since := none, searched := Now}}
    end;
missing(#{searched := Searched, pause := Pause} = Tail, _Cache, Now) when Now - Searched < Pause ->
    {none, Tail};
missing(#{id := Id, holes := Holes, hole_since := Since} = Tail, Cache, Now) ->
    case lists:any(fun(Slot) -> dev_websocket_cache:has_slot(Cache, Id, Slot) end, Holes) of
        true ->
            {read, Tail#{searched := Now}};
        false when Since =/= none ->
            {none, Tail};
        false ->
            case later(Tail, Cache) of
                {{ok, _}, Known} -> {none, Known#{searched := Now, hole_since := Now}};
                {none, Known} -> {none, with_longer_pause(Known#{searched := Now})}
            end
    end.

%% @doc A search costs some twenty probes, so its pause doubles while the process is idle.
with_longer_pause(#{pause := Pause} = Tail) -> Tail#{pause := min(2 * Pause, ?LONGEST_PAUSE)}.

later(#{id := Id, process := unknown} = Tail, Cache) ->
    case dev_websocket_process:find(Cache, Id) of
        {ok, Process} -> later(Tail#{process := Process}, Cache);
        _ -> {none, Tail}
    end;
later(#{process := Process, next := Next} = Tail, Cache) ->
    {dev_websocket_cache:later_slot(Cache, Process, Next, ?REACH), Tail}.

%% @doc A slot that cannot be published is read again for a while, and then reported as a
%% gap. A refused process refuses all of its slots.
retry(#{id := Id, next := Next, retry := Trouble} = Tail, Slot, Why, {Patience, Reason}, Cache, Now) ->
    Since = case Trouble of
        {Slot, First, _} -> First;
        _ -> Now
    end,
    case Now - Since >= Patience of
        false ->
            {none, Tail#{retry := {Slot, Since, Now + ?AGAIN}}};
        true ->
            Last = case Slot of
                process -> max(Next, dev_websocket_cache:newest_slot(Cache, Id, Next));
                _ -> Slot
            end,
            {{gap, Next, Last, Reason, Why}, Tail#{retry := none}}
    end.

set_first(Cache, Id, Since) ->
    case hb_websocket_nif:slot_mark(Id) of
        none ->
            Newest = dev_websocket_cache:newest_slot(Cache, Id, 0),
            Begin = first_of(Cache, Id, Newest, Since),
            set_result(hb_websocket_nif:set_slot_mark(Id, Begin));
        {ok, Slot, Part, _Holes} ->
            %% A slot that is published in part is always finished.
            First = case Part of 0 -> Slot; _ -> Slot + 1 end,
            Newest = dev_websocket_cache:newest_slot(Cache, Id, First),
            Begin = first_of(Cache, Id, Newest, Since),
            case Part =:= 0 andalso Begin > Slot of
                true -> set_result(hb_websocket_nif:publish_slot_gap(Id, Slot, Begin - 1, not_followed));
                false -> ok
            end;
        Error ->
            Error
    end.

read_slots(Cache, Id, unknown) ->
    case dev_websocket_process:find(Cache, Id) of
        {ok, Process} -> read_slots(Cache, Id, Process);
        {withheld, Why} -> {{withheld, process, Why}, unknown};
        missing -> {{withheld, process, no_process_message}, unknown}
    end;
read_slots(Cache, Id, Process) ->
    #{max_data_bytes := Max} = hb_websocket_nif:settings(),
    Publish = fun(Slot, Part) -> publish(Cache, Process, Slot, Part, Max) end,
    %% A process that was followed before it had slots has no mark yet.
    Outcome = case hb_websocket_nif:set_slot_mark(Id, 0) of
        {ok, Slot, Part, Holes} ->
            _ = [publish_late(Cache, Id, From, To, Publish) || {From, To} <- Holes],
            publish_from(Slot, Part, Publish, ?MAX_SLOTS);
        {error, Reason} ->
            {stopped, Reason}
    end,
    {Outcome, Process}.

set_result({ok, _, _, _}) -> ok;
set_result(ok) -> ok;
set_result(Error) -> {error, Error}.

%% @doc Slots are dated by the scheduler, because the cache has no other time.
first_of(Cache, Id, Newest, Since) ->
    first_recent(Cache, Id, Newest, max(0, Newest + 1 - ?MAX_SLOTS), Since).

first_recent(_Cache, _Id, Slot, First, _Since) when Slot < First ->
    First;
first_recent(Cache, Id, Slot, First, Since) ->
    case dev_websocket_process:scheduled_at(Cache, Id, Slot) >= Since of
        true -> first_recent(Cache, Id, Slot - 1, First, Since);
        false -> Slot + 1
    end.

%% @doc Publish slots of a hole that have appeared. A failure is retried later.
publish_late(_Cache, _Id, From, To, _Publish) when From > To ->
    ok;
publish_late(Cache, Id, From, To, Publish) ->
    case dev_websocket_cache:has_slot(Cache, Id, From) andalso Publish(From, 0) of
        ok -> publish_late(Cache, Id, From + 1, To, Publish);
        _ -> ok
    end.

publish_from(_Slot, _Part, _Publish, 0) ->
    more;
publish_from(Slot, Part, Publish, Left) ->
    case Publish(Slot, Part) of
        ok -> publish_from(Slot + 1, 0, Publish, Left - 1);
        missing -> caught_up;
        Other -> Other
    end.

%% @doc Publish a slot from a part on.
publish(Cache, Process, Slot, Part, Max) ->
    #{id := Id} = Process,
    dev_websocket_slot:send(Cache, Process, {Slot, Part}, Max, fun(From, Events, IsLast) ->
        Answer = case hb_websocket_nif:publish_slot(Id, Slot, From, Events, IsLast) of
            large -> hb_websocket_nif:publish_slot_large(Id, Slot, From, Events, IsLast);
            Published -> Published
        end,
        published(Answer, Slot)
    end).

published(ok, _Slot) -> ok;
published({dropped, repeated}, _Slot) -> ok;
published({dropped, overload}, _Slot) -> busy;
%% Another reader was faster: the next one begins at the mark.
published({error, {expected, _, _}}, _Slot) -> more;
%% A client subscribed to edges meanwhile: the slot is read again with its edge.
published({error, edge_wanted}, _Slot) -> more;
published({dropped, Reason}, Slot) -> {unreadable, Slot, Reason};
published({error, Reason}, _Slot) -> {stopped, Reason}.
