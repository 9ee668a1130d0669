%% A histogram of nanoseconds that many processes write to without making garbage: 10 ns steps to 20 us, 1 us steps to
%% 2 ms, 100 us steps to 200 ms, and the rest.
-module(bench_hist).

-export([new/0, record/2, summary/1]).

-define(STEPS, 2000).

new() ->
    counters:new(3 * ?STEPS + 1, [atomics]).

record(Hist, Ns) ->
    counters:add(Hist, slot(Ns), 1).

slot(Ns) when Ns < 20000 -> max(0, Ns) div 10 + 1;
slot(Ns) when Ns < 2000000 -> ?STEPS + Ns div 1000 + 1;
slot(Ns) when Ns < 200000000 -> 2 * ?STEPS + Ns div 100000 + 1;
slot(_) -> 3 * ?STEPS + 1.

bound(Slot) when Slot =< ?STEPS -> Slot * 10;
bound(Slot) when Slot =< 2 * ?STEPS -> (Slot - ?STEPS) * 1000;
bound(Slot) -> (Slot - 2 * ?STEPS) * 100000.

%% Values in ns; `over_1ms` is a count.
summary(Hist) ->
    Counts = [{Slot, N} || Slot <- lists:seq(1, 3 * ?STEPS + 1), N <- [counters:get(Hist, Slot)], N > 0],
    Total = lists:sum([N || {_, N} <- Counts]),
    Over = lists:sum([N || {Slot, N} <- Counts, bound(Slot) > 1000000]),
    #{samples => Total, over_1ms => Over,
      p50 => quantile(Counts, Total * 0.5), p90 => quantile(Counts, Total * 0.9),
      p99 => quantile(Counts, Total * 0.99), p999 => quantile(Counts, Total * 0.999),
      max => quantile(Counts, Total)}.

quantile([], _) -> 0;
quantile([{Slot, _}], _) -> bound(Slot);
quantile([{Slot, N} | _], Wanted) when N >= Wanted -> bound(Slot);
quantile([{_, N} | Rest], Wanted) -> quantile(Rest, Wanted - N).
