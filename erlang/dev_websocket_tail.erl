%%% @doc One followed process, a tail: its next slot, and its next action. This module reads
%%% the cache and the engine's mark and only decides; `dev_websocket_tails' acts.
%%%
%%% | action | meaning |
%%% |---|---|
%%% | `none' | Nothing new. |
%%% | `attach' | The process has slots: find the first one to publish. |
%%% | `read' | There is a slot to publish. |
%%% | `{gap, From, To, Reason, Why}' | Publish a gap for these slots, and go on behind them. |
%%%
%%% No single "not there" is final, as the node writes asynchronously and in any order. A slot
%%% that is missing while a later one is there is a hole after 5 seconds. A slot that failed
%%% the checks is read again for 2 seconds before it is withheld. Slots of a hole that come
%%% later are published then.
-module(dev_websocket_tail).
-export([new/3, probe/3, begun/2, put_off/2, attached/2, turned/5]).
-export([next/1, process/1, busy_since/1, is_active/1, is_put_off/1, due/3]).

%% How long a hole, a refusal and a slot that cannot be read may last, in milliseconds.
-define(HOLE, 5_000).
-define(REFUSAL, 2_000).
-define(UNREADABLE, 5_000).
%% A refused or unreadable slot is read again after this, in milliseconds.
-define(AGAIN, 400).
%% Pause between two searches for a later slot, in milliseconds, and how far they look.
-define(SEARCH, 5_000).
-define(LONGEST_PAUSE, 60_000).
-define(REACH, 1 bsl 20).
%% A tail is quiet from this pause on, so after 15 seconds without news, and then probed once
%% in so many milliseconds.
-define(QUIET_PAUSE, 4 * ?SEARCH).
-define(QUIET, 1_000).

-type tail() :: map().
-type action() :: none | attach | read |
    {gap, non_neg_integer(), non_neg_integer(), not_cached | withheld, term()}.
-export_type([tail/0, action/0]).

%% @doc A process that is followed from now on. `Next' is `unknown', or known from before.
-spec new(binary(), non_neg_integer() | unknown, integer()) -> tail().
new(Id, Next, Now) ->
    #{
        id => Id,
        %% The slot that comes next.
        next => Next,
        %% First slots of the holes that gaps told.
        holes => [],
        busy_since => idle,
        process => unknown,
        searched => Now,
        %% The pause before the next search. It grows while nothing happens.
        pause => ?SEARCH,
        %% When a later slot was found behind the next one.
        hole_since => none,
        %% {slot, since, not before}
        trouble => none
    }.

-spec next(tail()) -> non_neg_integer() | unknown.
next(#{next := Next}) -> Next.

-spec process(tail()) -> map() | unknown.
process(#{process := Process}) -> Process.

%% @doc The time since which it waits for a reader or has one.
-spec busy_since(tail()) -> integer() | idle.
busy_since(#{busy_since := Since}) -> Since.

%% @doc Whether slots of the process were seen.
-spec is_active(tail()) -> boolean().
is_active(#{next := Next}) -> is_integer(Next) andalso Next > 0.

%% @doc The ids of those to probe in pass `Number', and of those without slots. Passes are
%% `Interval' milliseconds apart. A tail without news for 15 seconds is in one pass of a second.
-spec due(#{binary() => tail()}, non_neg_integer(), pos_integer()) -> {[binary()], [binary()]}.
due(Tails, Number, Interval) ->
    Parts = max(1, ?QUIET div Interval),
    Part = Number rem Parts,
    IsDue = fun(Id, #{pause := Pause}) -> Pause < ?QUIET_PAUSE orelse erlang:phash2(Id, Parts) =:= Part end,
    {Active, Dormant} = lists:partition(fun({_, Tail}) -> is_active(Tail) end, maps:to_list(Tails)),
    {[Id || {Id, Tail} <- Active, IsDue(Id, Tail)], [Id || {Id, _} <- Dormant]}.

%% @doc Decide the next action. `Now' is monotonic, in milliseconds.
-spec probe(tail(), dev_websocket_cache:cache(), integer()) -> {action(), tail()}.
probe(#{busy_since := Since} = Tail, _Cache, _Now) when Since =/= idle ->
    {none, Tail};
probe(#{trouble := {_, _, NotBefore}} = Tail, _Cache, Now) when Now < NotBefore ->
    {none, Tail};
probe(#{id := Id, next := unknown} = Tail, Cache, _Now) ->
    %% Nothing was computed yet, so every slot is new.
    case hb_websocket_nif:slot_mark(Id) =:= none andalso not dev_websocket_cache:has_slot(Cache, Id, 0) of
        true -> {none, Tail#{next := 0}};
        false -> {attach, Tail}
    end;
probe(#{id := Id, next := Next} = Tail, Cache, Now) ->
    case dev_websocket_cache:has_slot(Cache, Id, Next) of
        true -> {read, Tail#{hole_since := none}};
        false -> missing(Tail, Cache, Now)
    end.

%% @doc It waits for a reader or has one.
-spec begun(tail(), integer()) -> tail().
begun(Tail, Now) -> Tail#{busy_since := Now}.

%% @doc All places are taken: do nothing for it before that time.
-spec put_off(tail(), integer()) -> tail().
put_off(Tail, NotBefore) -> Tail#{trouble := {no_place, NotBefore, NotBefore}}.

%% @doc Whether there was no place for it when it was last looked at.
-spec is_put_off(tail()) -> boolean().
is_put_off(#{trouble := {no_place, _, _}}) -> true;
is_put_off(_) -> false.

%% @doc The first slot to publish is known, or a gap was published.
-spec attached(tail(), integer()) -> tail().
attached(Tail, Now) -> marked(Tail#{busy_since := idle, searched := Now, pause := ?SEARCH, trouble := none}).

%% @doc A turn of reading has come to an end.
-spec turned(tail(), dev_websocket_reader:outcome(), map() | unknown, dev_websocket_cache:cache(), integer()) ->
    {action(), tail()}.
turned(Tail, Outcome, Process, Cache, Now) ->
    Marked = marked(Tail#{busy_since := idle, process := Process}),
    case Outcome of
        more -> {read, Marked#{trouble := none}};
        %% The writer may be behind with one slot only: look for later ones soon.
        caught_up -> {none, Marked#{trouble := none, searched := Now - ?SEARCH + 1_000, pause := ?SEARCH}};
        busy -> {none, Marked};
        {stopped, _} -> {none, Marked};
        {withheld, Slot, Why} -> trouble(Marked, Slot, Why, {?REFUSAL, withheld}, Cache, Now);
        {unreadable, Slot, Why} -> trouble(Marked, Slot, Why, {?UNREADABLE, not_cached}, Cache, Now)
    end.

%%% Private functions.

%% @doc The engine knows how far the process is published.
marked(#{id := Id} = Tail) ->
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
                {none, Known} -> {none, rested(Known#{searched := Now})}
            end
    end.

%% @doc A search costs some twenty looks, so a quiet tail is searched ever more seldom.
rested(#{pause := Pause} = Tail) -> Tail#{pause := min(2 * Pause, ?LONGEST_PAUSE)}.

later(#{id := Id, process := unknown} = Tail, Cache) ->
    case dev_websocket_process:find(Cache, Id) of
        {ok, Process} -> later(Tail#{process := Process}, Cache);
        _ -> {none, Tail}
    end;
later(#{process := Process, next := Next} = Tail, Cache) ->
    {dev_websocket_cache:later_slot(Cache, Process, Next, ?REACH), Tail}.

%% @doc A slot that is there and cannot be published is read again for a while. Where the
%% process itself is refused, all its slots are.
trouble(#{id := Id, next := Next, trouble := Trouble} = Tail, Slot, Why, {Patience, Reason}, Cache, Now) ->
    Since = case Trouble of
        {Slot, First, _} -> First;
        _ -> Now
    end,
    case Now - Since >= Patience of
        false ->
            {none, Tail#{trouble := {Slot, Since, Now + ?AGAIN}}};
        true ->
            Last = case Slot of
                process -> max(Next, dev_websocket_cache:newest_slot(Cache, Id, Next));
                _ -> Slot
            end,
            {{gap, Next, Last, Reason, Why}, Tail#{trouble := none}}
    end.
