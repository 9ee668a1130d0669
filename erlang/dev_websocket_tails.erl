%%% @doc The server that follows processes: it looks at the node's cache for new slots, and
%%% has readers publish them.
%%%
%%% A process is followed while a client is subscribed to `process:<id>' or `from:<id>',
%%% while the setting `tail' names it, and for 60 seconds after. A hint, the bare id from a
%%% call of the device, causes a look at once. While clients have other subscriptions, to
%%% tags or to everything, ids that only a hint named are followed for 60 seconds as well.
%%%
%%% Every `tail_interval' each tail is probed once, by this one process: a look at one path
%%% of the store. A tail without news for 15 seconds is probed once a second, or at a hint.
%%% At most 8 readers work at once. Probes take at most a fifth of the interval, whatever the
%%% store costs; the other tails then wait for the next one.
%%%
%%% State that a crash must not lose is kept elsewhere: marks in the engine, followed
%%% processes in a table of the supervisor.
-module(dev_websocket_tails).
-behaviour(gen_server).
-export([start_link/0, new_tables/0, use_options/1, reload/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, format_status/1]).

%% One for all copies of the device.
-define(SERVER, hb_websocket_tails).
-define(FOLLOWED, hb_websocket_followed).
%% Processes that only hints named.
-define(MAX_HINTED, 64).
%% Subscribed ids of which no slot is known.
-define(MAX_DORMANT, 10_000).
%% Number of these that are probed in an interval, in turn.
-define(DORMANT_PROBES, 100).
-define(MAX_READERS, 8).
%% How long a tail is kept after the last interest, in milliseconds.
-define(LINGER, 60_000).
%% A reader that takes longer is ended, in milliseconds.
-define(READER_DEADLINE, 60_000).
%% A process that only a hint named begins with the slots scheduled in this time, in milliseconds.
-define(FRESH, 60_000).
%% Probes behind a hint, in milliseconds: the node writes up to half a second later.
-define(AFTER_HINT, [20, 60, 140, 300, 600]).
%% Reading the interest takes at most one part in so many of the time.
-define(INTEREST_SHARE, 10).
%% Pause between two searches for a node, in milliseconds.
-define(SEARCH, 1_000).
%% A tail that found no place waits this long, in milliseconds.
-define(NO_PLACE, 30_000).

%% @doc Called by the supervisor.
-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    gen_server:start_link({local, ?SERVER}, ?MODULE, [], []).

%% @doc Called by the supervisor, which owns the tables.
-spec new_tables() -> ok.
new_tables() ->
    _ = ets:new(?FOLLOWED, [set, named_table, public]),
    dev_websocket_hint:new_table().

%% @doc Take the options of a node. They hold a private key, and are not passed on.
-spec use_options(term()) -> ok.
use_options(Opts) ->
    to_server({options, Opts}).

%% @doc Settings may have changed.
-spec reload() -> ok.
reload() ->
    to_server(reload).

to_server(Message) ->
    _ = try ?SERVER ! Message
    catch _:_ -> ok
    end,
    ok.

init([]) ->
    process_flag(trap_exit, true),
    Now = now_ms(),
    State = #{
        cache => none,
        source => dev_websocket_source:new(Now),
        interval => 250,
        max_tails => 1000,
        operator => [],
        tails => #{},
        %% Until when each id is followed; `always' while somebody is interested.
        until => #{},
        %% Since when clients are interested, in milliseconds since 1970.
        since => #{},
        others => false,
        %% Tails that are probed next in this pass, and the pass's number.
        pass => [],
        passes => 0,
        dormant => [],
        %% Ids that are probed behind a hint.
        hinted => #{},
        ready => queue:new(),
        readers => #{},
        lines => dev_websocket_log:none_yet(),
        %% The next question for interest comes then at the earliest.
        not_before => Now,
        tick => none
    },
    _ = dev_websocket_hint:take(),
    %% Tails of a server that crashed go on.
    Followed = ets:tab2list(?FOLLOWED),
    Resumed = State#{
        tails := maps:from_list([{Id, resumed(Id, Next, Now)} || {Id, Next} <- Followed]),
        until := maps:from_list([{Id, Now + ?LINGER} || {Id, _} <- Followed])
    },
    _ = try dev_websocket_version:fits() andalso hb_websocket_nif:watch_interest()
    catch _:_ -> ok
    end,
    {ok, tick(interest(with_settings(Resumed)))}.

handle_call(_Call, _From, State) -> {noreply, State}.

handle_cast(_Cast, State) -> {noreply, State}.

handle_info(tick, State) ->
    {noreply, tick(State#{tick := none})};
handle_info({websocket_interest, changed}, #{not_before := NotBefore} = State) ->
    %% Clients that subscribe in a loop must not keep this process busy.
    case NotBefore - now_ms() of
        Wait when Wait > 0 ->
            _ = erlang:send_after(Wait, self(), {websocket_interest, changed}),
            {noreply, State};
        _ ->
            {noreply, ticking(start_readers(interest(find_node(State))))}
    end;
handle_info(hinted, State) ->
    {noreply, ticking(start_readers(hinted(State)))};
handle_info({probe, Id, Later}, State) ->
    {noreply, start_readers(probe_after(Id, Later, State))};
handle_info({options, Opts}, State) ->
    {noreply, ticking(open(Opts, State))};
handle_info(reload, State) ->
    {noreply, ticking(interest(with_settings(State)))};
handle_info({read, Reader, Result}, State) ->
    {noreply, reader_ended(Reader, Result, State)};
handle_info({'EXIT', Reader, Reason}, State) ->
    %% The reason may hold options of the node, and is not passed on.
    {noreply, reader_ended(Reader, {{unreadable, process, ended(Reason)}, unknown}, State)};
handle_info(_Info, State) ->
    {noreply, State}.

%% @doc The state holds options of the node, and these a private key: no report shows them.
format_status(Status) ->
    maps:map(
        fun
            (state, #{tails := Tails}) -> #{tails => map_size(Tails)};
            (log, _) -> [];
            (message, _) -> hidden;
            (reason, _) -> hidden;
            (_, Value) -> Value
        end,
        Status
    ).

%%% Private functions.

%%% Hints.

hinted(State) ->
    lists:foldl(
        fun(Id, Acc) ->
            count(hints),
            follow_hint(Id, Acc)
        end,
        State,
        dev_websocket_hint:take()
    ).

%% @doc An id without subscribers is followed while other subscriptions may match its messages.
follow_hint(Id, #{tails := Tails, until := Until, others := Others} = State) ->
    case Tails of
        #{Id := _} ->
            probe_after(Id, ?AFTER_HINT, prolonged(Id, State));
        #{} when Others ->
            Hinted = [1 || {_, At} <- maps:to_list(Until), At =/= always],
            case length(Hinted) < ?MAX_HINTED of
                true -> probe_after(Id, ?AFTER_HINT, prolonged(Id, follow(Id, State)));
                false -> count(hints_dropped), State
            end;
        #{} ->
            State
    end.

prolonged(Id, #{until := Until} = State) ->
    case Until of
        #{Id := always} -> State;
        #{} -> State#{until := Until#{Id => now_ms() + ?LINGER}}
    end.

%% @doc Probe now, and again a little later. A tail has one such series at a time.
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

%% @doc Ask which processes have subscribers.
interest(#{max_tails := MaxTails, operator := Operator} = State) ->
    Began = now_ms(),
    Asked = try dev_websocket_version:fits() andalso hb_websocket_nif:interest(MaxTails + ?MAX_DORMANT)
    catch _:_ -> error
    end,
    Followed = case Asked of
        {ok, Wanted, Total, Others} ->
            Since = maps:from_list(Wanted),
            _ = [count(tails_limit) || Total > map_size(Since)],
            followed(Operator ++ [Id || {Id, _} <- Wanted], State#{others := Others, since := Since});
        %% An engine of another version is asked for nothing, and gets nothing.
        false ->
            followed([], State#{others := false});
        _ ->
            followed(Operator, State#{others := false})
    end,
    Followed#{not_before := now_ms() + ?INTEREST_SHARE * (now_ms() - Began)}.

%% @doc Follow these ids, and let the others expire.
followed(Ids, #{until := Before} = State) ->
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
    say_wanted(Followed).

say_wanted(#{tails := Tails, others := Others} = State) ->
    ok = dev_websocket_hint:want(Others orelse map_size(Tails) > 0),
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

%% @doc Drop the tails whose last interest has expired.
expire(Now, #{tails := Tails, until := Until} = State) ->
    Expired = [Id || {Id, At} <- maps:to_list(Until), is_integer(At), At =< Now, is_idle(Id, Tails)],
    _ = [ets:delete(?FOLLOWED, Id) || Id <- Expired],
    say_wanted(State#{tails := maps:without(Expired, Tails), until := maps:without(Expired, Until)}).

is_idle(Id, Tails) ->
    case Tails of
        #{Id := Tail} -> dev_websocket_tail:busy_since(Tail) =:= idle;
        #{} -> true
    end.

%%% Time.

tick(State) ->
    Now = now_ms(),
    ticking(tell(start_readers(probe_some(Now, end_readers(Now, expire(Now, search(Now, State))))))).

%% @doc Keep the timer running while somebody is interested, and only then.
ticking(#{tick := none, cache := none, tails := Tails, others := Others} = State) when
    map_size(Tails) > 0; Others
->
    State#{tick := erlang:send_after(?SEARCH, self(), tick)};
ticking(#{tick := none, interval := Interval, tails := Tails} = State) when map_size(Tails) > 0 ->
    State#{tick := erlang:send_after(Interval, self(), tick)};
ticking(State) ->
    State.

%% @doc Probe the tails in turn, as many as fit into the time. A pass that takes longer goes
%% on with the next tick.
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
            count(tail_probes),
            {Action, Probed} = try dev_websocket_tail:probe(Tail, Cache, now_ms())
            catch _:_ -> count(tail_read_failures), {none, Tail}
            end,
            act(Id, Action, with_tail(Id, Probed, State));
        #{} ->
            State
    end.

with_tail(Id, Tail, #{tails := Tails} = State) ->
    #{Id := Before} = Tails,
    Next = dev_websocket_tail:next(Tail),
    _ = Next =:= dev_websocket_tail:next(Before) orelse ets:insert(?FOLLOWED, {Id, Next}),
    State#{tails := Tails#{Id := Tail}}.

resumed(Id, Next, Now) ->
    dev_websocket_tail:attached(dev_websocket_tail:new(Id, Next, Now), Now).

act(_Id, none, State) ->
    State;
act(Id, {gap, From, To, Reason, Why}, State) ->
    %% A process that was refused from its first slot on has no mark yet.
    _ = hb_websocket_nif:set_slot_mark(Id, From),
    case hb_websocket_nif:publish_slot_gap(Id, From, To, Reason) of
        ok ->
            _ = [count(withheld) || Reason =:= withheld],
            Told = line(Id, From, To, Reason, Why, State),
            Tail = dev_websocket_tail:attached(maps:get(Id, maps:get(tails, Told)), now_ms()),
            with_tail(Id, Tail, Told);
        _ ->
            State
    end;
act(Id, Action, #{ready := Ready, tails := Tails} = State) when Action =:= attach; Action =:= read ->
    #{Id := Tail} = Tails,
    case Action =:= read orelse has_place(Id, State) of
        true ->
            Begun = dev_websocket_tail:begun(Tail, now_ms()),
            State#{ready := queue:in({Action, Id}, Ready), tails := Tails#{Id := Begun}};
        false ->
            no_place(Id, State)
    end.

%% @doc A process with slots takes one of the places.
has_place(_Id, #{tails := Tails, max_tails := MaxTails}) ->
    Active = maps:fold(
        fun(_, Tail, N) ->
            case dev_websocket_tail:is_active(Tail) orelse dev_websocket_tail:busy_since(Tail) =/= idle of
                true -> N + 1;
                false -> N
            end
        end,
        0,
        Tails
    ),
    Active < MaxTails.

no_place(Id, #{tails := Tails} = State) ->
    #{Id := Tail} = Tails,
    %% Told once.
    _ = dev_websocket_tail:is_put_off(Tail) orelse
        hb_websocket_nif:publish_slot_gap(Id, undefined, undefined, limit),
    State#{tails := Tails#{Id := dev_websocket_tail:put_off(Tail, now_ms() + ?NO_PLACE)}}.

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
                tails := Tails#{Id := dev_websocket_tail:begun(Tail, now_ms())}
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
    fun(Cache) -> dev_websocket_reader:turn(Cache, Id, Process) end;
job(attach, Id, #{until := Until, since := Wanted}) ->
    Since = case {Wanted, Until} of
        {#{Id := Time}, _} -> Time;
        %% What the operator names begins with the next slot.
        {_, #{Id := always}} -> infinity;
        _ -> erlang:system_time(millisecond) - ?FRESH
    end,
    fun(Cache) -> {attached, dev_websocket_reader:attach(Cache, Id, Since)} end.

reader_ended(Reader, Result, #{readers := Readers} = State) ->
    case Readers of
        #{Reader := Id} -> start_readers(turned(Id, Result, State#{readers := maps:remove(Reader, Readers)}));
        #{} -> State
    end.

turned(Id, Result, #{tails := Tails, cache := Cache} = State) ->
    case {Tails, Result} of
        {#{Id := Tail}, {attached, _}} ->
            probe(Id, with_tail(Id, dev_websocket_tail:attached(Tail, now_ms()), State));
        {#{Id := Tail}, {Outcome, Process}} ->
            {Action, Turned} = try dev_websocket_tail:turned(Tail, Outcome, Process, Cache, now_ms())
            catch _:_ -> {none, dev_websocket_tail:attached(Tail, now_ms())}
            end,
            _ = [count(tail_read_failures) || {unreadable, _, _} <- [Outcome]],
            act(Id, Action, with_tail(Id, Turned, State));
        _ ->
            State
    end.

%% @doc A store that hangs must not keep its readers for ever.
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

%%% The node and its cache.

search(Now, #{cache := Cache, source := Source} = State) ->
    with_source(dev_websocket_source:search(Now, Cache, Source), State).

%% @doc What is computed before a node is found is no news then, so each new subscriber
%% makes it be looked for.
find_node(#{cache := none, source := Source} = State) ->
    with_source(dev_websocket_source:find(Source), State);
find_node(State) ->
    State.

open(Opts, #{source := Source} = State) ->
    with_source(dev_websocket_source:open(Opts, Source), State).

with_source({Cache, Source}, State) ->
    tell(State#{cache := Cache, source := Source}).

with_settings(State) ->
    case dev_websocket_version:fits() andalso hb_websocket_nif:settings() of
        #{tail := Operator, tail_interval := Interval, max_tails := MaxTails} ->
            State#{operator := [Id || Id <- Operator, dev_websocket_cache:is_id(Id)], interval := Interval, max_tails := MaxTails};
        _ ->
            State
    end.

%%% Gauges and log lines.

tell(#{tails := Tails, ready := Ready, source := Source} = State) ->
    _ = try dev_websocket_version:fits() andalso hb_websocket_nif:set_tails(map_size(Tails), queue:len(Ready), dev_websocket_source:name(Source))
    catch _:_ -> ok
    end,
    State.

%% @doc One line for each gap, up to a limit, because a stranger can cause gaps.
line(Id, From, To, Reason, Why, #{lines := Lines} = State) ->
    Event = #{event => slot_gap, process => Id, from => From, to => To, reason => Reason},
    Text = "Slots ~b to ~b of process ~ts were not published (~ts): ~0tp.",
    State#{lines := dev_websocket_log:some(Lines, warning, Event, Text, [From, To, Id, Reason, Why])}.

count(Name) ->
    _ = try hb_websocket_nif:count_result(Name)
    catch _:_ -> ok
    end,
    ok.

now_ms() ->
    erlang:monotonic_time(millisecond).
