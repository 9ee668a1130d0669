%% What publishing costs inside the VM: a call's time in its caller, and the latency of processes that have nothing to do
%% with it.
-module(bench_probe).

-export([cast_cost/2, start_ping_pong/2, await/1]).

-define(MAX_SECONDS, 600).

%% Some processes publish in bursts with pauses; each call is timed. With a burst of 1 each call finds caches and
%% schedulers cold. After a train of bursts they rest, so that what a train costs others can be dealt with. What timing
%% itself costs is measured the same way and shown beside, not subtracted. A `spawn` of a process that does nothing is
%% the floor: what the VM asks for handing anything over.
cast_cost(#{<<"floor">> := true} = Command, _) ->
    measure(Command, fun(_, _) -> spawn(fun() -> ok end) end);
cast_cost(Command, Publish) ->
    measure(Command, Publish).

measure(#{<<"topic">> := Topic, <<"size">> := Size, <<"burst">> := Burst, <<"pause_ms">> := Pause,
          <<"train">> := Train, <<"rest_ms">> := Rest, <<"seconds">> := Seconds} = Command, Publish) ->
    Procs = maps:get(<<"procs">>, Command, 1),
    Stream = maps:get(<<"stream">>, Command, 0),
    Padding = bench_payload:padding(Size),
    Hist = bench_hist:new(),
    Until = erlang:monotonic_time(millisecond) + trunc(min(Seconds, ?MAX_SECONDS) * 1000),
    Pauses = lists:duplicate(Train - 1, Pause) ++ [Rest],
    Callers = [spawn_monitor(fun() ->
                   Call = fun(From, To) -> calls(Publish, Topic, Stream + N, From, To, Padding, Hist) end,
                   exit({calls, trains(Call, 0, Burst, Pauses, Until)})
               end) || N <- lists:seq(0, Procs - 1)],
    Calls = [receive {'DOWN', Ref, process, Pid, {calls, Count}} -> Count;
                     {'DOWN', Ref, process, Pid, Reason} -> error({caller, Reason})
             end || {Pid, Ref} <- Callers],
    #{count => lists:sum(Calls), calls => Calls, cast_ns => bench_hist:summary(Hist), timing_ns => overhead(Padding)}.

trains(Call, Seq, Burst, Pauses, Until) ->
    Next = lists:foldl(fun(Pause, From) ->
        To = Call(From, From + Burst),
        receive after Pause -> To end
    end, Seq, Pauses),
    case erlang:monotonic_time(millisecond) >= Until of
        true -> Next;
        false -> trains(Call, Next, Burst, Pauses, Until)
    end.

calls(_, _, _, End, End, _, _) -> End;
calls(Publish, Topic, Stream, Seq, End, Padding, Hist) ->
    Payload = bench_payload:make(Stream, Seq, Padding),
    Before = erlang:monotonic_time(nanosecond),
    Publish(Topic, Payload),
    After = erlang:monotonic_time(nanosecond),
    bench_hist:record(Hist, After - Before),
    calls(Publish, Topic, Stream, Seq + 1, End, Padding, Hist).

overhead(Padding) ->
    Hist = bench_hist:new(),
    calls(fun(_, _) -> ok end, <<"t">>, 0, 0, 20000, Padding, Hist),
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
