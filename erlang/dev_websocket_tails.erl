%%% @doc The server that follows processes: it probes the node's cache for new slots, and
%%% starts readers that publish them.
%%%
%%% A process is followed while a client is subscribed to `process:<id>' or `from:<id>',
%%% while the setting `tail' names it, and for 60 seconds longer. A hint, the id of a process
%%% from a call of the device, causes a probe at once. While clients have other
%%% subscriptions, to tags or to everything, ids from hints alone are followed for 60 seconds
%%% as well.
%%%
%%% Every `tail_interval' this one process probes each tail once, which reads one path of the
%%% store. Quiet tails, without news for 15 seconds, are probed after hints and once a second,
%%% but at most 100 of them in a second. Probes take at most a fifth of the interval, and the other tails then wait for the
%%% next one. At most 8 readers run at once.
%%%
%%% A crash loses nothing: marks are kept in the engine, and followed processes in a table of
%%% the supervisor.
-module(dev_websocket_tails).
-behaviour(gen_server).
-export([start_link/0, new_tables/0, use_options/1, reload/0, tell_followed/3]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, format_status/1]).

%% The names are shared by all copies of the device.
-define(SERVER, hb_websocket_tails).
-define(FOLLOWED, hb_websocket_followed).
%% Processes that are followed because of hints alone.
-define(MAX_HINTED, 64).
%% Subscribed ids without slots.
-define(MAX_DORMANT, 10_000).
%% Ids without slots that are probed per interval, in turn.
-define(DORMANT_PROBES, 100).
-define(MAX_READERS, 8).
%% A process is followed this long after the last interest, in milliseconds.
-define(LINGER, 60_000).
%% A reader that takes longer is killed, in milliseconds.
-define(READER_DEADLINE, 60_000).
%% A process that only a hint named begins with slots of this age, in milliseconds.
-define(FRESH, 60_000).
%% Pauses between the probes after a hint, in milliseconds. The node writes asynchronously.
-define(AFTER_HINT, [20, 60, 140, 300, 600]).
%% Reading the interest takes at most one tenth of the time.
-define(INTEREST_SHARE, 10).
%% Interval while no node is known, in milliseconds.
-define(SEARCH, 1_000).
%% A tail without a place waits this long, in milliseconds.
-define(NO_PLACE, 30_000).

%% @doc Called by the supervisor.
-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    gen_server:start_link({local, ?SERVER}, ?MODULE, [], []).

%% @doc Called by the supervisor, which owns the tables.
-spec new_tables() -> ok.
new_tables() ->
    _ = ets:new(?FOLLOWED, [set, named_table, public]),
    dev_websocket_request:new_hint_table().

%% @doc Use the options of a node. They hold a private key, and only readers get them.
-spec use_options(term()) -> ok.
use_options(Opts) ->
    gen_server:cast(?SERVER, {options, Opts}).

%% @doc Read the settings again.
-spec reload() -> ok.
reload() ->
    gen_server:cast(?SERVER, reload).

%% @doc Tell a server of slot replays when a process is followed, and how to read it.
-spec tell_followed(pid(), non_neg_integer(), binary()) -> ok.
tell_followed(Server, Replay, Id) ->
    gen_server:cast(?SERVER, {tell_followed, {Server, Replay}, Id}).

init([]) ->
    process_flag(trap_exit, true),
    Now = now_ms(),
    State = #{
        cache => none,
        source => dev_websocket_cache:new_source(Now),
        interval => 250,
        max_tails => 1000,
        operator => [],
        follow => true,
        tails => #{},
        %% The time until which each id is followed, or `always' during interest.
        until => #{},
        %% The time at which clients became interested, in milliseconds since 1970.
        since => #{},
        others => false,
        %% Tails that are probed next in this pass, and the number of the next pass.
        pass => [],
        passes => 0,
        dormant => [],
        %% Ids that are probed after a hint.
        hinted => #{},
        ready => queue:new(),
        readers => #{},
        %% Slot replays that wait for a process to be followed.
        waiting => #{},
        lines => dev_websocket_log:new_limit(),
        %% The earliest time to read the interest again.
        not_before => Now,
        tick => none
    },
    _ = dev_websocket_request:take_hints(),
    %% Go on with the tails of a server that crashed.
    Followed = ets:tab2list(?FOLLOWED),
    Resumed = State#{
        tails := maps:from_list([{Id, resumed(Id, Next, Now)} || {Id, Next} <- Followed]),
        until := maps:from_list([{Id, Now + ?LINGER} || {Id, _} <- Followed])
    },
    _ = dev_websocket_library:ask(tails, fun hb_websocket_nif:watch_interest/0),
    {ok, tick(interest(with_settings(Resumed)))}.

handle_call(_Call, _From, State) -> {noreply, State}.

handle_cast({options, Opts}, State) ->
    {noreply, ticking(open(Opts, State))};
handle_cast(reload, State) ->
    {noreply, ticking(interest(with_settings(State)))};
handle_cast({tell_followed, Replay, Id}, #{waiting := Waiting} = State) ->
    {noreply, ticking(answered(State#{waiting := dev_websocket_replays:wait(Replay, Id, Waiting, now_ms())}))};
handle_cast(_Cast, State) ->
    {noreply, State}.

handle_info(tick, State) ->
    {noreply, tick(State#{tick := none})};
handle_info({websocket_interest, changed}, #{not_before := NotBefore} = State) ->
    %% Clients that subscribe in a loop must not keep this process busy.
    case NotBefore - now_ms() of
        Wait when Wait > 0 ->
            _ = erlang:send_after(Wait, self(), {websocket_interest, changed}),
            {noreply, State};
        _ ->
            {noreply, ticking(answered(start_readers(interest(find_node(State)))))}
    end;
handle_info(hinted, State) ->
    {noreply, ticking(start_readers(hinted(State)))};
handle_info({probe, Id, Later}, State) ->
    {noreply, start_readers(probe_after(Id, Later, State))};
handle_info({read, Reader, Result}, State) ->
    {noreply, reader_ended(Reader, Result, State)};
handle_info({'EXIT', Reader, Reason}, State) ->
    %% The reason may hold options of the node, so it goes no further.
    {noreply, reader_ended(Reader, {{unreadable, process, ended(Reason)}, unknown}, State)};
handle_info(_Info, State) ->
    {noreply, State}.

%% @doc Reports show no state, because it holds the private key of the node.
format_status(Status) ->
    dev_websocket_log:hidden(Status, fun(#{tails := Tails}) -> #{tails => map_size(Tails)} end).

%%% Private functions.

%%% Hints.

hinted(State) ->
    lists:foldl(
        fun(Id, Acc) ->
            dev_websocket_log:count(hints),
            follow_hint(Id, Acc)
        end,
        State,
        dev_websocket_request:take_hints()
    ).

%% @doc Follow an id without subscribers if other subscriptions may match its messages.
follow_hint(Id, #{tails := Tails, until := Until, others := Others} = State) ->
    case Tails of
        #{Id := _} ->
            ok = dev_websocket_follow:hint(Id),
            probe_after(Id, ?AFTER_HINT, prolonged(Id, State));
        #{} when Others ->
            Hinted = [1 || {_, At} <- maps:to_list(Until), At =/= always],
            case length(Hinted) < ?MAX_HINTED of
                true -> probe_after(Id, ?AFTER_HINT, prolonged(Id, follow(Id, State)));
                false -> dev_websocket_log:count(hints_dropped), State
            end;
        #{} ->
            State
    end.

prolonged(Id, #{until := Until} = State) ->
    case Until of
        #{Id := always} -> State;
        #{} -> State#{until := Until#{Id => now_ms() + ?LINGER}}
    end.

%% @doc Probe now, and several times in the next second. A tail has one such series at a
%% time.
probe_after(Id, Later, #{hinted := Hinted} = State) ->
    case {Later, Hinted} of
        {?AFTER_HINT, #{Id := true}} ->
            State;
        {[Pause | After], _} ->
            _ = erlang:send_after(Pause, self(), {probe, Id, After}),
            probe(Id, State#{hinted := Hinted#{Id => true}});
        {[], _} ->
            probe(Id, State#{hinted := maps:remove(Id, Hinted)})
    end.

%%% Interest.

%% @doc Read the ids of processes that have subscribers, and follow them.
interest(#{max_tails := MaxTails, operator := Operator, follow := IsFollowing} = State) ->
    Began = now_ms(),
    Asked = IsFollowing andalso dev_websocket_library:ask(tails, fun() -> hb_websocket_nif:interest(MaxTails + ?MAX_DORMANT) end),
    Followed = case Asked of
        {ok, Wanted, Total, Others} ->
            Since = maps:from_list(Wanted),
            _ = [dev_websocket_log:count(tails_limit) || Total > map_size(Since)],
            followed(Operator ++ [Id || {Id, _} <- Wanted], State#{others := Others, since := Since});
        %% An engine of another version is neither asked nor told.
        Off when Off =:= other_version; Off =:= false ->
            followed([], State#{others := false});
        _ ->
            followed(Operator, State#{others := false})
    end,
    Followed#{not_before := now_ms() + ?INTEREST_SHARE * (now_ms() - Began)}.

%% @doc Follow these ids, and let all others expire.
followed(Ids, #{until := Before} = State) ->
    ok = dev_websocket_follow:wanted(Ids),
    Expiry = now_ms() + ?LINGER,
    Wanted = maps:from_list([{Id, always} || Id <- Ids]),
    Left = maps:map(
        fun
            (_, always) -> Expiry;
            (_, At) -> At
        end,
        maps:without(Ids, Before)
    ),
    Followed = lists:foldl(fun follow/2, State#{until := maps:merge(Left, Wanted)}, Ids),
    want_hints(Followed).

want_hints(#{tails := Tails, others := Others} = State) ->
    ok = dev_websocket_request:want_hints(Others orelse map_size(Tails) > 0),
    State.

follow(Id, #{tails := Tails} = State) ->
    case Tails of
        #{Id := _} ->
            State;
        #{} ->
            true = ets:insert(?FOLLOWED, {Id, unknown}),
            Tail = dev_websocket_tail:new(Id, unknown, now_ms()),
            probe(Id, State#{tails := Tails#{Id => Tail}})
    end.

%% @doc Drop the tails without interest whose time is over.
expire(Now, #{tails := Tails, until := Until} = State) ->
    IsIdle = fun(Id) -> not is_map_key(Id, Tails) orelse dev_websocket_tail:busy_since(map_get(Id, Tails)) =:= idle end,
    Expired = [Id || {Id, At} <- maps:to_list(Until), is_integer(At), At =< Now, IsIdle(Id)],
    _ = [ets:delete(?FOLLOWED, Id) || Id <- Expired],
    want_hints(State#{tails := maps:without(Expired, Tails), until := maps:without(Expired, Until)}).

%%% Time.

tick(State) ->
    Now = now_ms(),
    ticking(answered(show(start_readers(probe_some(Now, end_readers(Now, expire(Now, search(Now, State)))))))).

%% @doc Set the timer, unless no process is of interest.
ticking(#{tick := none, cache := none, tails := Tails, others := Others} = State) when
    map_size(Tails) > 0; Others; map_size(map_get(waiting, State)) > 0
->
    State#{tick := erlang:send_after(?SEARCH, self(), tick)};
ticking(#{tick := none, interval := Interval, tails := Tails} = State) when map_size(Tails) > 0 ->
    State#{tick := erlang:send_after(Interval, self(), tick)};
ticking(State) ->
    State.

%% @doc Probe tails in turn, for at most a fifth of the interval. The next tick goes on with
%% the rest of the pass.
probe_some(_Now, #{cache := none} = State) ->
    State;
probe_some(Now, #{interval := Interval} = State) ->
    probe_until(Now + Interval div 5, ?DORMANT_PROBES, refilled(State)).

refilled(#{pass := [], passes := Number, interval := Interval, dormant := Waiting, tails := Tails} = State) ->
    {Due, Dormant} = dev_websocket_tail:due(Tails, Number, Interval),
    State#{
        pass := Due,
        passes := Number + 1,
        dormant := case Waiting of
            [] -> Dormant;
            _ -> Waiting
        end
    };
refilled(State) ->
    State.

probe_until(Deadline, Dormant, #{pass := [Id | Rest]} = State) ->
    case now_ms() < Deadline of
        true -> probe_until(Deadline, Dormant, probe(Id, State#{pass := Rest}));
        false -> State
    end;
probe_until(Deadline, Dormant, #{dormant := [Id | Rest]} = State) when Dormant > 0 ->
    case now_ms() < Deadline of
        true -> probe_until(Deadline, Dormant - 1, probe(Id, State#{dormant := Rest}));
        false -> State
    end;
probe_until(_Deadline, _Dormant, State) ->
    State.

probe(_Id, #{cache := none} = State) ->
    State;
probe(Id, #{tails := Tails, cache := Cache} = State) ->
    case Tails of
        #{Id := Tail} ->
            dev_websocket_log:count(tail_probes),
            case dev_websocket_log:safely(probe, fun() -> dev_websocket_tail:probe(Tail, Cache, now_ms()) end, failed) of
                {Action, Probed} -> act(Id, Action, with_tail(Id, Probed, State));
                failed -> dev_websocket_log:count(tail_read_failures), with_tail(Id, dev_websocket_tail:probe_failed(Tail, now_ms()), State)
            end;
        #{} ->
            State
    end.

with_tail(Id, Tail, #{tails := Tails} = State) ->
    #{Id := Before} = Tails,
    Next = dev_websocket_tail:next(Tail),
    _ = Next =:= dev_websocket_tail:next(Before) orelse ets:insert(?FOLLOWED, {Id, Next}),
    State#{tails := Tails#{Id := Tail}}.

resumed(Id, Next, Now) ->
    dev_websocket_tail:attach_done(dev_websocket_tail:new(Id, Next, Now), Now).

act(_Id, none, State) ->
    State;
act(Id, {gap, From, To, Reason, Why}, State) ->
    %% A process that was refused from the first slot on has no mark yet.
    _ = hb_websocket_nif:set_slot_mark(Id, From),
    case hb_websocket_nif:publish_slot_gap(Id, From, To, Reason) of
        ok ->
            _ = [dev_websocket_log:count(withheld) || Reason =:= withheld],
            Logged = log_gap(Id, From, To, Reason, Why, State),
            Tail = dev_websocket_tail:attach_done(maps:get(Id, maps:get(tails, Logged)), now_ms()),
            with_tail(Id, Tail, Logged);
        _ ->
            State
    end;
act(Id, Action, #{ready := Ready, tails := Tails} = State) when Action =:= attach; Action =:= read ->
    #{Id := Tail} = Tails,
    case Action =:= read orelse has_place(State) of
        true ->
            Begun = dev_websocket_tail:mark_busy(Tail, now_ms()),
            State#{ready := queue:in({Action, Id}, Ready), tails := Tails#{Id := Begun}};
        false ->
            no_place(Id, State)
    end.

%% @doc Whether a place is free. Each process with slots takes one.
has_place(#{tails := Tails, max_tails := MaxTails}) -> dev_websocket_tail:places(Tails) < MaxTails.

no_place(Id, #{tails := Tails} = State) ->
    #{Id := Tail} = Tails,
    %% The gap is published once.
    _ = dev_websocket_tail:is_postponed(Tail) orelse
        hb_websocket_nif:publish_slot_gap(Id, undefined, undefined, limit),
    State#{tails := Tails#{Id := dev_websocket_tail:postpone(Tail, now_ms() + ?NO_PLACE)}}.

%%% Readers.

start_readers(#{ready := Ready, readers := Readers, cache := Cache, tails := Tails} = State) when
    map_size(Readers) < ?MAX_READERS
->
    case queue:out(Ready) of
        {{value, {Action, Id}}, Rest} when is_map_key(Id, Tails) ->
            Job = job(Action, Id, State),
            Server = self(),
            Reader = spawn_link(fun() -> Server ! {read, self(), Job(Cache)} end),
            #{Id := Tail} = Tails,
            start_readers(State#{
                ready := Rest,
                readers := Readers#{Reader => Id},
                tails := Tails#{Id := dev_websocket_tail:mark_busy(Tail, now_ms())}
            });
        {{value, _}, Rest} ->
            start_readers(State#{ready := Rest});
        {empty, _} ->
            State
    end;
start_readers(State) ->
    State.

job(read, Id, #{tails := Tails}) ->
    Process = dev_websocket_tail:process(maps:get(Id, Tails)),
    fun(Cache) -> dev_websocket_tail:read(Cache, Id, Process) end;
job(attach, Id, #{until := Until, since := Wanted}) ->
    Since = case {Wanted, Until} of
        {#{Id := Time}, _} -> Time;
        %% A process that the operator names begins with its next slot.
        {_, #{Id := always}} -> infinity;
        _ -> erlang:system_time(millisecond) - ?FRESH
    end,
    fun(Cache) -> {attached, dev_websocket_tail:attach(Cache, Id, Since)} end.

reader_ended(Reader, Result, #{readers := Readers} = State) ->
    case Readers of
        #{Reader := Id} -> answered(start_readers(read_done(Id, Result, State#{readers := maps:remove(Reader, Readers)})));
        #{} -> State
    end.

read_done(Id, Result, #{tails := Tails, cache := Cache} = State) ->
    case {Tails, Result} of
        {#{Id := Tail}, {attached, ok}} ->
            probe(Id, with_tail(Id, dev_websocket_tail:attach_done(Tail, now_ms()), State));
        {#{Id := Tail}, {attached, _}} ->
            dev_websocket_log:count(tail_read_failures),
            with_tail(Id, dev_websocket_tail:attach_failed(Tail, now_ms()), State);
        {#{Id := Tail}, {Outcome, Process}} ->
            Decide = fun() -> dev_websocket_tail:read_done(Tail, Outcome, Process, Cache, now_ms()) end,
            Undecided = {none, dev_websocket_tail:attach_done(Tail, now_ms())},
            {Action, Decided} = dev_websocket_log:safely(read_done, Decide, Undecided),
            _ = [dev_websocket_log:count(tail_read_failures) || {unreadable, _, _} <- [Outcome]],
            act(Id, Action, with_tail(Id, Decided, State));
        _ ->
            State
    end.

%% @doc Kill readers that take too long, because a store may hang.
end_readers(Now, #{readers := Readers, tails := Tails} = State) ->
    _ = [
        exit(Reader, kill)
     ||
        {Reader, Id} <- maps:to_list(Readers),
        #{Id := Tail} <- [Tails],
        Since <- [dev_websocket_tail:busy_since(Tail)],
        is_integer(Since), Now - Since > ?READER_DEADLINE
    ],
    State.

ended(killed) -> too_slow;
ended(_) -> crashed.

%% @doc Answer the slot replays whose process is followed by now.
answered(#{waiting := Waiting, tails := Tails, cache := Cache} = State) ->
    State#{waiting := dev_websocket_replays:answer(Waiting, Tails, Cache, source(State), now_ms())}.

%%% The node and its cache.

search(Now, #{cache := Cache, source := Source} = State) ->
    with_source(dev_websocket_cache:refresh(Now, Cache, Source), State).

%% @doc Slots that are computed before a node is found count as old. So each new subscriber
%% triggers a search for the node.
find_node(#{cache := none, source := Source} = State) ->
    with_source(dev_websocket_cache:find(Source), State);
find_node(State) ->
    State.

open(Opts, #{source := Source} = State) ->
    with_source(dev_websocket_cache:open(Opts, Source), State).

with_source({Cache, Source}, State) ->
    show(State#{cache := Cache, source := Source}).

with_settings(State) ->
    case dev_websocket_library:ask(tails, fun hb_websocket_nif:settings/0) of
        #{tail := Ids, tail_interval := Interval, max_tails := MaxTails, follow := Follow} ->
            Operator = [Id || Id <- Ids, dev_websocket_cache:is_id(Id)],
            State#{operator := Operator, interval := Interval, max_tails := MaxTails, follow := Follow =/= <<"off">>};
        _ ->
            State
    end.

%%% Gauges and log lines.

show(#{tails := Tails, ready := Ready} = State) ->
    _ = dev_websocket_library:ask(tails, fun() -> hb_websocket_nif:set_tails(map_size(Tails), queue:len(Ready), source(State)) end),
    State.

source(#{follow := false}) -> off;
source(#{source := Source}) -> dev_websocket_cache:source_name(Source).

%% @doc One line for each gap. Their rate is limited, because a stranger can cause gaps.
log_gap(Id, From, To, Reason, Why, #{lines := Lines} = State) ->
    Event = #{event => slot_gap, process => Id, from => From, to => To, reason => Reason},
    Text = "Slots ~b to ~b of process ~ts were not published (~ts): ~0tp.",
    State#{lines := dev_websocket_log:log_limited(Lines, warning, Event, Text, [From, To, Id, Reason, Why])}.

now_ms() ->
    erlang:monotonic_time(millisecond).
