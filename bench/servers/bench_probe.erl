%% What publishing costs inside the VM: a call's time in its caller, and the latency of processes that have nothing to do
%% with it.
-module(bench_probe).

-export([cast_cost/2, start_ping_pong/2, await/1]).

-define(MAX_SECONDS, 600).

%% Some processes publish in bursts with pauses; each call is timed. With a burst of 1 each call finds caches and
%% schedulers cold. After a train of turns they rest, so that what a train costs others can be dealt with. In each turn
%% every kind has a burst, in an order of its own: messages of some kinds, and `spawn`, which starts a process that does
%% nothing. That is the floor, what the VM asks for handing anything over, so it has the same caller at the same pace,
%% beside the same deliveries. What timing itself costs is measured the same way and shown beside, not subtracted.
cast_cost(#{<<"topic">> := Topic, <<"size">> := Size, <<"kinds">> := Names, <<"burst">> := Burst, <<"pause_ms">> := Pause,
            <<"train">> := Train, <<"rest_ms">> := Rest, <<"seconds">> := Seconds} = Command, How) ->
    Procs = maps:get(<<"procs">>, Command, 1),
    Padding = bench_payload:padding(Size),
    Kinds = [{Name, call(Name, Topic, How), bench_hist:new()} || Name <- binary:split(Names, <<",">>, [global])],
    Until = erlang:monotonic_time(millisecond) + trunc(min(Seconds, ?MAX_SECONDS) * 1000),
    Pauses = lists:duplicate(Train - 1, Pause) ++ [Rest],
    Callers = [spawn_monitor(fun() ->
                   %% Each kind is a stream of its own: nobody gets what is only spawned.
                   First = maps:get(<<"stream">>, Command, 0) + N * length(Kinds),
                   Streams = lists:zip(lists:seq(First, First + length(Kinds) - 1), Kinds),
                   exit({calls, trains(Streams, 0, Burst, Padding, Pauses, Until)})
               end) || N <- lists:seq(0, Procs - 1)],
    Calls = [receive {'DOWN', Ref, process, Pid, {calls, Count}} -> Count;
                     {'DOWN', Ref, process, Pid, Reason} -> error({caller, Reason})
             end || {Pid, Ref} <- Callers],
    #{count => lists:sum(Calls), costs => maps:from_list([{Name, bench_hist:summary(Hist)} || {Name, _, Hist} <- Kinds]),
      timing_ns => overhead(Padding)}.

%% What is made of a payload before the time is taken, and what is timed.
call(<<"spawn">>, _, _) ->
    {fun(Payload) -> Payload end, fun(_) -> spawn(fun() -> ok end) end};
call(Name, Topic, {Kinds, Publish}) ->
    #{Name := Make} = Kinds,
    {fun(Payload) -> Make(Topic, Payload) end, Publish}.

%% Gives how many calls of each kind there were.
trains(Streams, Seq, Burst, Padding, Pauses, Until) ->
    Next = lists:foldl(fun(Pause, From) ->
        To = From + Burst,
        Turn = [Stream || {_, Stream} <- lists:sort([{rand:uniform(), Stream} || Stream <- Streams])],
        turn(Turn, From, To, Padding, hd(Pauses), Pause),
        To
    end, Seq, Pauses),
    case erlang:monotonic_time(millisecond) >= Until of
        true -> Next;
        false -> trains(Streams, Next, Burst, Padding, Pauses, Until)
    end.

%% A pause after each burst, and after the last one the one that is due.
turn([{Stream, {_, Call, Hist}} | Later], From, To, Padding, Pause, Last) ->
    calls(Call, Stream, From, To, Padding, Hist),
    receive after case Later of [] -> Last; _ -> Pause end -> ok end,
    Later =:= [] orelse turn(Later, From, To, Padding, Pause, Last).

calls(_, _, End, End, _, _) -> ok;
calls({Make, Call} = How, Stream, Seq, End, Padding, Hist) ->
    Message = Make(bench_payload:make(Stream, Seq, Padding)),
    Before = erlang:monotonic_time(nanosecond),
    Call(Message),
    After = erlang:monotonic_time(nanosecond),
    bench_hist:record(Hist, After - Before),
    calls(How, Stream, Seq + 1, End, Padding, Hist).

overhead(Padding) ->
    Hist = bench_hist:new(),
    calls({fun(Payload) -> Payload end, fun(_) -> ok end}, 0, 0, 20000, Padding, Hist),
    bench_hist:summary(Hist).

%% A pair of processes that send each other a message every Gap ms; gives a handle for await/1.
start_ping_pong(Seconds, Gap) ->
    spawn_monitor(fun() ->
        Hist = bench_hist:new(),
        Echo = spawn_link(fun echo/0),
        Until = erlang:monotonic_time(millisecond) + trunc(Seconds * 1000),
        ping(Echo, Gap, Until, Hist),
        unlink(Echo),
        exit(Echo, kill),
        exit({result, bench_hist:summary(Hist)})
    end).

await({Pid, Ref}) ->
    receive
        {'DOWN', Ref, process, Pid, {result, Result}} -> Result;
        {'DOWN', Ref, process, Pid, Reason} -> error({ping_pong, Reason})
    end.

ping(Echo, Gap, Until, Hist) ->
    Before = erlang:monotonic_time(nanosecond),
    Echo ! {self(), Before},
    receive Before -> ok end,
    After = erlang:monotonic_time(nanosecond),
    bench_hist:record(Hist, After - Before),
    receive after Gap -> ok end,
    case erlang:monotonic_time(millisecond) >= Until of
        true -> ok;
        false -> ping(Echo, Gap, Until, Hist)
    end.

echo() ->
    receive {From, Message} -> From ! Message, echo() end.
