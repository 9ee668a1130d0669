%%% @doc The server that lets the node compute slots for subscribers, with the setting
%%% `follow = compute' and for the processes in `follow_processes'.
%%%
%%% It probes the scheduler's cache for a message in the next slot of each process that has
%%% subscribers. A slot that is scheduled, and that nobody computes, is computed by the node
%%% as for a request of `compute'. The result goes into the cache, where
%%% `dev_websocket_tails' finds it. This server publishes nothing.
%%%
%%% | promise | means |
%%% |---|---|
%%% | Nothing is computed twice. | A slot is computed only if no slot of its process appeared in the last second, or in three times the time of its last slot. With process workers the node itself joins equal computations. |
%%% | Computing leaves the node room. | Each process has one worker of low priority, and `follow_share' per cent of the time, with at most 5 seconds saved. All together have half of the schedulers. |
%%% | Failures cost little. | After a failure the process waits ten times as long as the attempt took, and at least 1 second, which doubles up to 10 minutes. |
%%% | Idle processes cost little. | At most 100 probes in a second, in turn; a hint causes a probe at once. |
%%%
%%% A process is computed only as far as this node has its assignments. So nothing is asked
%%% of a scheduler on another node, which may be slow or gone.
-module(dev_websocket_follow).
-behaviour(gen_server).
-export([start_link/0, use_options/1, reload/0, wanted/1, hint/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, format_status/1]).

%% The name is shared by all copies of the device.
-define(SERVER, hb_websocket_follow).
%% Probes per second.
-define(PROBES, 100).
%% Time without a new slot before one is computed, in milliseconds, and as a multiple of the
%% time that the last slot took.
-define(QUIET, 1_000).
-define(SLOTS_QUIET, 3).
%% Time of computing that a process saves at most, in milliseconds.
-define(SAVED, 5_000).
%% Time of one batch that is aimed at, in milliseconds, and its slots at most.
-define(BATCH, 1_000).
-define(MAX_SLOTS, 50).
%% First and longest pause after a failure, and their growth with its time.
-define(PAUSE, 1_000).
-define(LONGEST_PAUSE, 600_000).
-define(PAUSE_SHARE, 10).
%% A computation that takes longer is ended, in milliseconds. It doubles with each failure.
-define(DEADLINE, 60_000).

%% @doc Called by the supervisor.
-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    gen_server:start_link({local, ?SERVER}, ?MODULE, [], []).

%% @doc Use the options of a node. They hold a private key, and only workers get them.
-spec use_options(term()) -> ok.
use_options(Opts) ->
    gen_server:cast(?SERVER, {options, Opts}).

%% @doc Read the settings again.
-spec reload() -> ok.
reload() ->
    gen_server:cast(?SERVER, reload).

%% @doc The processes with subscribers.
-spec wanted([binary()]) -> ok.
wanted(Ids) ->
    gen_server:cast(?SERVER, {wanted, Ids}).

%% @doc A process may have a new message.
-spec hint(binary()) -> ok.
hint(Id) ->
    gen_server:cast(?SERVER, {hint, Id}).

init([]) ->
    process_flag(trap_exit, true),
    Now = now_ms(),
    State = #{
        cache => none,
        source => dev_websocket_cache:new_source(Now),
        allowed => #{},
        share => 25,
        interval => 250,
        wanted => [],
        %% The processes that have subscribers and may be computed.
        processes => #{},
        %% Those that are probed next.
        pass => [],
        workers => #{},
        lines => dev_websocket_log:new_limit(),
        tick => none
    },
    %% A server that crashed does not know the subscribers.
    _ = [Tails ! {websocket_interest, changed} || Tails <- [whereis(hb_websocket_tails)], is_pid(Tails)],
    {ok, with_settings(State)}.

handle_call(_Call, _From, State) -> {noreply, State}.

handle_cast({options, Opts}, #{source := Source} = State) ->
    {noreply, with_source(dev_websocket_cache:open(Opts, Source), State)};
handle_cast(reload, State) ->
    {noreply, ticking(chosen(with_settings(State)))};
handle_cast({wanted, Ids}, State) ->
    {noreply, ticking(chosen(State#{wanted := Ids}))};
handle_cast({hint, Id}, State) ->
    Probed = probe(Id, now_ms(), State),
    %% Anybody can cause hints, so one of a process that is not due looks through no others.
    case Probed of
        #{processes := #{Id := #{is_due := true}}} -> {noreply, start_workers(Probed)};
        #{} -> {noreply, Probed}
    end;
handle_cast(_Cast, State) ->
    {noreply, State}.

handle_info(tick, State) ->
    Now = now_ms(),
    Searched = search(Now, State#{tick := none}),
    {noreply, ticking(start_workers(probe_some(Now, end_workers(Now, Searched))))};
handle_info({computed, Worker, Result}, State) ->
    {noreply, start_workers(ended(Worker, Result, State))};
handle_info({'EXIT', Worker, Reason}, State) ->
    %% The reason may hold options of the node, so it goes no further.
    Result = case Reason of killed -> too_slow; _ -> crashed end,
    {noreply, start_workers(ended(Worker, {error, Result}, State))};
handle_info(_Info, State) ->
    {noreply, State}.

%% @doc Reports show no state, because it holds the private key of the node.
format_status(Status) ->
    dev_websocket_log:hidden(Status, fun(#{processes := Processes}) -> #{processes => map_size(Processes)} end).

%%% Private functions.

%%% The processes.

%% @doc Keep the processes that have subscribers and may be computed. A worker of another
%% one ends with its batch.
chosen(#{wanted := Wanted, allowed := Allowed, processes := Known} = State) ->
    Ids = [Id || Id <- Wanted, Allowed =:= all orelse is_map_key(Id, Allowed)],
    Now = now_ms(),
    Processes = maps:from_list([{Id, maps:get(Id, Known, new(Now))} || Id <- Ids]),
    State#{processes := Processes}.

new(Now) ->
    #{
        %% The next slot to publish.
        next => unknown,
        %% The slot behind the last batch, and the time at which the batch ended.
        computed => 0,
        ended => never,
        %% The time since which a slot waits, and nobody else computes.
        since => Now,
        %% Whether the next slot can be computed now.
        is_due => false,
        %% Time of computing that is saved, in milliseconds, at a time.
        saved => {?SAVED, Now},
        %% The time that one slot took, in milliseconds.
        slot_time => unknown,
        failures => 0,
        not_before => Now
    }.

%% @doc Probe processes in turn, without more probes per second than stated.
probe_some(_Now, #{cache := none} = State) ->
    State;
probe_some(Now, #{interval := Interval} = State) ->
    probe_some(Now, max(1, ?PROBES * Interval div 1_000), State).

probe_some(_Now, 0, State) ->
    State;
probe_some(Now, Left, #{pass := [Id | Rest]} = State) ->
    probe_some(Now, Left - 1, probe(Id, Now, State#{pass := Rest}));
probe_some(Now, Left, #{pass := [], processes := Processes} = State) ->
    %% The next pass begins in the same tick if there is room, and probes each process once.
    {Part, Rest} = lists:split(min(Left, map_size(Processes)), maps:keys(Processes)),
    lists:foldl(fun(Id, Acc) -> probe(Id, Now, Acc) end, State#{pass := Rest}, Part).

probe(_Id, _Now, #{cache := none} = State) ->
    State;
probe(Id, Now, #{cache := Cache, processes := Processes} = State) ->
    case Processes of
        #{Id := Process} ->
            Probe = fun() -> probed(Id, Process, Cache, fun() -> workers_join(State) end, Now) end,
            State#{processes := Processes#{Id := dev_websocket_log:safely(follow, Probe, Process)}};
        #{} ->
            State
    end.

%% @doc Look for a message in the next slot. A process without published slots begins with
%% slot 0.
probed(Id, Process, Cache, IsJoined, Now) ->
    case hb_websocket_nif:slot_mark(Id) of
        {ok, Next, _Part, _Holes} -> probed(Id, Next, Process, Cache, IsJoined, Now);
        none -> probed(Id, 0, Process, Cache, IsJoined, Now);
        {error, _} -> Process
    end.

probed(Id, Next, Process, Cache, IsJoined, Now) ->
    #{since := Since, computed := Computed, ended := Ended} = Seen = seen(Next, Process, Now),
    IsWaiting = dev_websocket_cache:is_scheduled(Cache, Id, Next) andalso
        not dev_websocket_cache:has_slot(Cache, Id, Next),
    case IsWaiting of
        true ->
            %% The node writes the slots of a batch after it has answered. Until then they
            %% look as if nobody had computed them.
            GoesOn = Next =:= Computed andalso Ended =/= never andalso Now - Ended < quiet(Seen),
            Seen#{is_due := GoesOn orelse Now - Since >= quiet(Seen) orelse IsJoined()};
        false when Next < Computed ->
            Seen#{is_due := false};
        false ->
            Seen#{is_due := false, since := Now}
    end.

%% @doc A mark beyond the slots of this server shows that somebody else computes.
seen(Next, #{next := Next} = Process, _Now) -> Process;
seen(Next, #{computed := Computed} = Process, _Now) when Next =< Computed -> Process#{next := Next};
seen(Next, Process, Now) -> Process#{next := Next, since := Now}.

quiet(#{slot_time := unknown}) -> ?QUIET;
quiet(#{slot_time := Time}) -> max(?QUIET, ?SLOTS_QUIET * Time).

%% @doc Whether the node lets equal computations wait for the first one.
workers_join(#{source := Source}) ->
    dev_websocket_node:option(process_workers, false, dev_websocket_cache:source_options(Source)) =:= true.

%%% Workers.

start_workers(#{cache := none} = State) ->
    State;
start_workers(#{processes := Processes, workers := Workers} = State) ->
    Now = now_ms(),
    Free = max(0, max_workers() - map_size(Workers)),
    Busy = [Id || #{id := Id} <- maps:values(Workers)],
    Due = [
        {Since, Id}
     ||
        Free > 0, {Id, #{is_due := true, since := Since} = Process} <- maps:to_list(Processes),
        not lists:member(Id, Busy), may_begin(Process, State, Now)
    ],
    lists:foldl(fun({_, Id}, Acc) -> start_worker(Id, Now, Acc) end, State, lists:sublist(lists:sort(Due), Free)).

may_begin(#{not_before := NotBefore} = Process, State, Now) ->
    Now >= NotBefore andalso saved(Process, State, Now) > 0.

saved(#{saved := {Saved, At}}, #{share := Share}, Now) ->
    min(?SAVED, Saved + (Now - At) * Share div 100).

max_workers() -> max(1, erlang:system_info(schedulers_online) div 2).

start_worker(Id, Now, #{processes := Processes, workers := Workers, cache := Cache, source := Source} = State) ->
    #{Id := #{next := Next, failures := Failures} = Process} = Processes,
    Server = self(),
    Opts = dev_websocket_cache:source_options(Source),
    Slots = batch(Process),
    Worker = spawn_opt(
        fun() -> Server ! {computed, self(), compute(Cache, Id, Next, Slots, Opts)} end, [link, {priority, low}]
    ),
    Deadline = Now + min(?DEADLINE bsl min(Failures, 10), ?LONGEST_PAUSE),
    State#{
        workers := Workers#{Worker => #{id => Id, began => Now, deadline => Deadline}},
        processes := Processes#{Id := Process#{computed := Next + Slots}}
    }.

%% @doc The slots of a batch.
batch(#{failures := Failures}) when Failures > 0 -> 1;
batch(#{slot_time := unknown}) -> 1;
batch(#{slot_time := Time}) -> min(?MAX_SLOTS, max(1, ?BATCH div max(1, Time))).

%% @doc Compute scheduled slots as the node does it for a request. One call is cheaper than
%% one call for each slot.
compute(Cache, Id, First, Slots, Opts) ->
    Compute = fun() ->
        Last = last_scheduled(Cache, Id, First, First + Slots - 1),
        case dev_websocket_node:compute(Id, Last, Opts) of
            ok -> {ok, First, Last - First + 1};
            error -> {error, refused}
        end
    end,
    dev_websocket_log:safely(compute, Compute, {error, raised}).

last_scheduled(_Cache, _Id, Last, Last) -> Last;
last_scheduled(Cache, Id, Slot, Last) ->
    case dev_websocket_cache:is_scheduled(Cache, Id, Slot + 1) of
        true -> last_scheduled(Cache, Id, Slot + 1, Last);
        false -> Slot
    end.

%% @doc End workers that take too long.
end_workers(Now, #{workers := Workers} = State) ->
    _ = [exit(Worker, kill) || {Worker, #{deadline := Deadline}} <- maps:to_list(Workers), Now >= Deadline],
    State.

ended(Worker, Result, #{workers := Workers, processes := Processes} = State) ->
    case Workers of
        #{Worker := #{id := Id, began := Began}} ->
            Now = now_ms(),
            Freed = State#{workers := maps:remove(Worker, Workers)},
            ok = dev_websocket_request:hint(Id),
            Logged = log_failure(Id, Result, Freed),
            case Processes of
                #{Id := Process} ->
                    Spent = spend(Process, Now - Began, State, Now),
                    Logged#{processes := Processes#{Id := outcome(Result, Now - Began, Now, Spent)}};
                #{} ->
                    Logged
            end;
        #{} ->
            State
    end.

spend(Process, Time, State, Now) ->
    Process#{saved := {saved(Process, State, Now) - Time, Now}, is_due := false}.

outcome({ok, First, Slots}, Time, Now, Process) ->
    _ = [dev_websocket_log:count(follow_slots) || _ <- lists:seq(1, Slots)],
    Process#{slot_time := Time div Slots, failures := 0, computed := First + Slots, ended := Now, since := Now};
outcome({error, _}, Time, Now, #{failures := Failures} = Process) ->
    dev_websocket_log:count(follow_failures),
    Pause = max(?PAUSE bsl min(Failures, 10), ?PAUSE_SHARE * Time),
    Process#{failures := Failures + 1, not_before := Now + min(Pause, ?LONGEST_PAUSE)}.

log_failure(Id, {error, Reason}, #{lines := Lines} = State) ->
    Event = #{event => follow_failed, process => Id, reason => Reason},
    Text = "The node could not compute the next slot of process ~ts (~ts). It is tried again later.",
    State#{lines := dev_websocket_log:log_limited(Lines, warning, Event, Text, [Id, Reason])};
log_failure(_Id, _Result, State) ->
    State.

%%% The node, settings and time.

search(Now, #{cache := Cache, source := Source} = State) ->
    with_source(dev_websocket_cache:refresh(Now, Cache, Source), State).

with_source({Cache, Source}, State) ->
    State#{cache := Cache, source := Source}.

with_settings(State) ->
    case dev_websocket_library:ask(follow, fun hb_websocket_nif:settings/0) of
        #{follow := <<"compute">>, follow_processes := Ids, follow_share := Share, tail_interval := Interval} ->
            Allowed = case Ids of
                [<<"all">>] -> all;
                _ -> maps:from_keys(Ids, true)
            end,
            State#{allowed := Allowed, share := Share, interval := Interval};
        _ ->
            State#{allowed := #{}}
    end.

%% @doc Set the timer, unless there is nothing to compute.
ticking(#{tick := none, processes := Processes, workers := Workers, interval := Interval} = State) when
    map_size(Processes) > 0; map_size(Workers) > 0
->
    State#{tick := erlang:send_after(Interval, self(), tick)};
ticking(State) ->
    State.

now_ms() ->
    erlang:monotonic_time(millisecond).
