%%% @doc The server of slot replays: it gives each one its turn, and starts the readers.
%%%
%%% A client that asks for `from-slot' gets the slots of a process from the node's cache, and
%%% then those that the tail publishes. The engine tells when a replay is due: its client has
%%% taken everything. A turn is one slot. Replays that are due wait in one queue, so a long
%%% one does not hold up a short one. Readers have a low priority, and `dev_websocket_replay_pace'
%%% bounds what they take from a node that computes.
%%%
%%% A replay begins when its process is followed, because it ends at the mark of the tail.
%%%
%%% A crash loses nothing: the engine keeps the progress, and tells the next server.
-module(dev_websocket_replays).
-behaviour(gen_server).
-export([start_link/0, wait/4, answer/5]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, format_status/1]).

%% The name is shared by all copies of the device.
-define(SERVER, hb_websocket_replays).
-define(MAX_READERS, 8).
%% Replays that the engine tells of at once.
-define(MAX_DUE, 1000).
%% A reader that takes longer is killed, in milliseconds.
-define(READER_DEADLINE, 60_000).
%% A reader that takes longer lets another one begin, because its store may hang.
-define(SLOW_READER, 1_000).
%% Pause before a slot is read again, in milliseconds, and the times before a gap reports it.
-define(AGAIN, 400).
-define(MISSING, 300).
%% Pause while the tail publishes a slot, in milliseconds.
-define(BEGUN, 20).
-define(REFUSAL, 2_000).
-define(UNREADABLE, 5_000).
%% Slots in a row that cannot be read before a replay ends.
-define(MAX_UNREADABLE, 3).
%% Pause between two looks at readers and at replays without an answer, in milliseconds.
-define(TICK, 1_000).
%% Time for the server of tails to find a node, and to follow a process, in milliseconds. The
%% node's store may be broken.
-define(NO_NODE, 1_000).
-define(NO_TAIL, 15_000).

%% Replays that wait until their process is followed: the process, and the begin of the wait.
-type waiting() :: #{{pid(), non_neg_integer()} => {binary(), integer()}}.
-export_type([waiting/0]).

%% @doc Called by the supervisor.
-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    gen_server:start_link({local, ?SERVER}, ?MODULE, [], []).

%% @doc Called by the server of tails: one more waits, or the same one still.
-spec wait({pid(), non_neg_integer()}, binary(), waiting(), integer()) -> waiting().
wait(Replay, Id, Waiting, Now) ->
    maps:update_with(Replay, fun(Since) -> Since end, {Id, Now}, Waiting).

%% @doc Called by the server of tails: tell those who wait for a process that it is followed,
%% and how to read it, or why it is not. The others are returned.
-spec answer(waiting(), #{binary() => dev_websocket_tail:tail()}, dev_websocket_cache:cache() | none, atom(), integer()) ->
    waiting().
answer(Waiting, Tails, Cache, Source, Now) ->
    maps:filter(
        fun({Server, Number}, {Id, Since}) ->
            case answer(maps:get(Id, Tails, none), Cache, Source, Now - Since) of
                wait -> true;
                Answer -> Server ! {followed, Number, Answer}, false
            end
        end,
        Waiting
    ).

%% The setting `follow' is off.
answer(_Tail, _Cache, off, _Waited) -> {error, no_node};
answer(_Tail, none, no_local_store, _Waited) -> {error, no_local_store};
answer(_Tail, none, Source, Waited) when Waited > ?NO_NODE -> {error, Source};
answer(_Tail, none, _Source, _Waited) -> wait;
answer(none, _Cache, _Source, Waited) when Waited > ?NO_TAIL -> {error, unreadable};
answer(none, _Cache, _Source, _Waited) -> wait;
answer(Tail, Cache, _Source, Waited) ->
    case {dev_websocket_tail:next(Tail), dev_websocket_tail:is_postponed(Tail)} of
        {Next, _} when is_integer(Next) -> {ok, Cache};
        {_, true} -> {error, limit};
        {_, false} when Waited > ?NO_TAIL -> {error, unreadable};
        {_, false} -> wait
    end.

init([]) ->
    process_flag(trap_exit, true),
    State = #{
        replays => #{},
        %% Replays that wait for a reader.
        ready => queue:new(),
        readers => #{},
        pace => dev_websocket_replay_pace:new(),
        %% The timer of a rest.
        rest => none,
        tick => none
    },
    _ = dev_websocket_library:ask(replays, fun hb_websocket_nif:watch_slot_replays/0),
    {ok, look(State)}.

handle_call(_Call, _From, State) -> {noreply, State}.

handle_cast(_Cast, State) -> {noreply, State}.

handle_info({websocket_slot_replays, changed}, State) ->
    {noreply, look(State)};
handle_info({followed, Number, Answer}, State) ->
    {noreply, run(followed(Number, Answer, State))};
handle_info({again, Number}, State) ->
    {noreply, run(ready(Number, State))};
handle_info({turned, Reader, Result}, #{readers := Readers} = State) ->
    case Readers of
        #{Reader := {Number, _}} -> {noreply, run(turned(Number, Result, ended(Reader, State)))};
        #{} -> {noreply, State}
    end;
handle_info({'EXIT', Reader, _Reason}, #{readers := Readers, replays := Replays} = State) ->
    case Readers of
        %% The reason may hold options of the node, so it goes no further.
        #{Reader := {Number, _}} ->
            Left = ended(Reader, State),
            case Replays of
                #{Number := #{slot := Slot, process := Process}} ->
                    {noreply, run(turned(Number, {{failed, unreadable, Slot}, Process}, Left))};
                #{} ->
                    {noreply, run(Left)}
            end;
        #{} ->
            {noreply, State}
    end;
handle_info(rested, State) ->
    {noreply, run(State#{rest := none})};
handle_info(tick, State) ->
    {noreply, run(tick(State#{tick := none}))};
handle_info(_Info, State) ->
    {noreply, State}.

%% @doc Reports show no state, because it holds the private key of the node.
format_status(Status) ->
    dev_websocket_log:hidden(Status, fun(#{replays := Replays}) -> #{replays => map_size(Replays)} end).

%%% Private functions.

%% @doc Ask the engine for replays that are due.
look(State) ->
    case dev_websocket_library:ask(replays, fun() -> hb_websocket_nif:slot_replays(?MAX_DUE) end) of
        {ok, Due, Ended} ->
            _ = length(Due) =:= ?MAX_DUE andalso (self() ! {websocket_slot_replays, changed}),
            run(lists:foldl(fun due/2, lists:foldl(fun forget/2, State, Ended), Due));
        _ ->
            State
    end.

due({Number, Id, Slot, Part}, #{replays := Replays} = State) ->
    Replay = maps:get(Number, Replays, dev_websocket_replay:new(Number, Id)),
    Updated = State#{replays := Replays#{Number => Replay#{slot := Slot, part := Part}}},
    case Replay of
        #{cache := unknown} ->
            wait_for_tail(Number, Id),
            Updated;
        #{} ->
            ready(Number, Updated)
    end.

wait_for_tail(Number, Id) ->
    dev_websocket_tails:tell_followed(self(), Number, Id).

followed(Number, Answer, #{replays := Replays} = State) ->
    case {Replays, Answer} of
        {#{Number := #{cache := unknown} = Replay}, {ok, Cache}} ->
            ready(Number, State#{replays := Replays#{Number := Replay#{cache := Cache}}});
        {#{Number := #{cache := unknown}}, {error, Reason}} ->
            _ = hb_websocket_nif:replay_failed(Number, Reason),
            forget(Number, State);
        _ ->
            State
    end.

ready(Number, #{ready := Ready} = State) ->
    State#{ready := queue:in(Number, Ready)}.

forget(Number, #{replays := Replays} = State) ->
    State#{replays := maps:remove(Number, Replays)}.

run(State) ->
    ticking(start_readers(State)).

start_readers(#{ready := Ready, readers := Readers, replays := Replays} = State) when
    map_size(Readers) < ?MAX_READERS
->
    case queue:out(Ready) of
        {{value, Number}, Rest} ->
            case Replays of
                #{Number := #{cache := Cache} = Replay} when Cache =/= unknown ->
                    next(Cache, Replay, State, State#{ready := Rest});
                #{} ->
                    start_readers(State#{ready := Rest})
            end;
        {empty, _} ->
            State
    end;
start_readers(State) ->
    State.

%% @doc Start a reader for the first replay that is ready, or keep all for later.
next(Cache, #{number := Number} = Replay, #{readers := Readers, pace := Pace} = Before, After) ->
    Now = now_ms(),
    Running = length([Since || {_, Since} <- maps:values(Readers), Now - Since < ?SLOW_READER]),
    case dev_websocket_replay_pace:next(Now, Running, fun dev_websocket_replay_pace:work/0, Pace) of
        {start, Next} ->
            Reader = start_reader(Cache, Replay),
            start_readers(After#{pace := Next, readers := Readers#{Reader => {Number, Now}}});
        {wait, infinity, Next} ->
            Before#{pace := Next};
        {wait, Time, Next} ->
            resting(Time, Before#{pace := Next})
    end.

resting(Time, #{rest := none} = State) ->
    State#{rest := erlang:send_after(Time, self(), rested)};
resting(_Time, State) ->
    State.

ended(Reader, #{readers := Readers, pace := Pace} = State) ->
    {{_, Since}, Left} = maps:take(Reader, Readers),
    Now = now_ms(),
    State#{readers := Left, pace := dev_websocket_replay_pace:ended(Now, Now - Since, Pace)}.

start_reader(Cache, Replay) ->
    Server = self(),
    spawn_link(fun() ->
        _ = process_flag(priority, low),
        Server ! {turned, self(), dev_websocket_replay:turn(Cache, Replay)}
    end).

%% @doc A reader has ended. The engine may have told of the next turn already.
turned(Number, {Outcome, Process}, #{replays := Replays} = State) ->
    case {Replays, Outcome} of
        {#{Number := _}, ended} ->
            forget(Number, State);
        {#{Number := _}, wait} ->
            _ = erlang:send_after(?BEGUN, self(), {again, Number}),
            State;
        {#{Number := Replay}, {failed, Why, To}} ->
            failed(Replay#{process := Process}, Why, To, State);
        {#{Number := Replay}, _} ->
            State#{replays := Replays#{Number := Replay#{process := Process, unreadable := 0}}};
        _ ->
            State
    end.

%% @doc A slot that fails is read again for a while, and then reported as a gap.
failed(#{number := Number, slot := Slot, retry := Retry} = Replay, Why, To, #{replays := Replays} = State) ->
    Since = case Retry of
        {Slot, First} -> First;
        _ -> now_ms()
    end,
    _ = Why =:= unreadable andalso dev_websocket_log:count(tail_read_failures),
    case now_ms() - Since >= patience(Why, Replay) of
        true ->
            reported(give_up(Replay, Why, To), Replay, Why, To, State);
        false ->
            _ = erlang:send_after(?AGAIN, self(), {again, Number}),
            State#{replays := Replays#{Number := Replay#{retry := {Slot, Since}}}}
    end.

patience(missing, #{slot := Slot, gap_until := Slot}) -> 0;
patience(missing, _Replay) -> ?MISSING;
patience(withheld, _Replay) -> ?REFUSAL;
patience(unreadable, _Replay) -> ?UNREADABLE.

give_up(#{number := Number, unreadable := Count}, unreadable, _To) when Count + 1 >= ?MAX_UNREADABLE ->
    hb_websocket_nif:replay_failed(Number, unreadable);
give_up(#{number := Number, slot := Slot}, Why, To) ->
    hb_websocket_nif:replay_gap(Number, Slot, To, reason(Why)).

reason(withheld) -> withheld;
reason(_) -> not_cached.

reported(ok, #{number := Number, unreadable := Count} = Replay, Why, To, #{replays := Replays} = State) ->
    Unreadable = case Why of
        unreadable -> Count + 1;
        _ -> 0
    end,
    Next = Replay#{retry := none, gap_until := To + 1, unreadable := Unreadable},
    State#{replays := Replays#{Number := Next}};
reported({error, {expected, _, _}}, _Replay, _Why, _To, State) ->
    State;
reported(_Error, #{number := Number}, _Why, _To, State) ->
    forget(Number, State).

%%% Time.

%% @doc Set the timer while a reader may hang, or a replay waits for its tail.
ticking(#{tick := none, replays := Replays} = State) when map_size(Replays) > 0 ->
    State#{tick := erlang:send_after(?TICK, self(), tick)};
ticking(State) ->
    State.

%% @doc Kill readers that take too long, because a store may hang. The server of tails may
%% have forgotten waiting replays.
tick(#{readers := Readers, replays := Replays} = State) ->
    Now = now_ms(),
    _ = [exit(Reader, kill) || {Reader, {_, Since}} <- maps:to_list(Readers), Now - Since > ?READER_DEADLINE],
    _ = [wait_for_tail(Number, Id) || {Number, #{cache := unknown, id := Id}} <- maps:to_list(Replays)],
    State.

now_ms() ->
    erlang:monotonic_time(millisecond).
