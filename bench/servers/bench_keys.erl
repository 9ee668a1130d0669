%%% @doc What the keys of the device cost the node that calls them, over the terms
%%% that a real node handed over: `bench/keys' runs it.
-module(bench_keys).
-export([main/0]).

-define(CALLS, 20000).

main() ->
    ok = dev_websocket:start(#{host => <<"127.0.0.1">>, port => 0}),
    row("", "median us", "p99 us"),
    each("info/1", fun(_) -> dev_websocket:info(#{}) end),
    hints("nobody is interested"),
    %% As while a client is subscribed to something.
    ok = dev_websocket_request:want_hints(true),
    hints("somebody is"),
    halt().

%% @doc What calls of the node cost it. A process of the node is one of many.
hints(When) ->
    {Base, Request, Opts} = recorded:call("compute_stack_slot1_loaded"),
    {Hook, Answer, Node} = recorded:call("response_hook_compute"),
    {_, Other, _} = recorded:call("response_hook_meta"),
    each("compute, " ++ When, fun(_) -> dev_websocket:compute(Base, Request, Opts) end),
    each("response of a process, " ++ When, fun(_) -> dev_websocket:response(Hook, Answer, Node) end),
    each("response of no process, " ++ When, fun(_) -> dev_websocket:response(Hook, Other, Node) end).

each(What, Call) ->
    erlang:garbage_collect(),
    Times = lists:sort([time(Call, N) || N <- lists:seq(0, ?CALLS - 1)]),
    At = fun(Share) -> io_lib:format("~.2f", [lists:nth(round(?CALLS * Share), Times) / 1000]) end,
    row(What, At(0.5), At(0.99)).

time(Call, N) ->
    Start = erlang:monotonic_time(nanosecond),
    _ = Call(N),
    erlang:monotonic_time(nanosecond) - Start.

row(What, Median, P99) ->
    io:format("~-48s~12s~12s~n", [What, Median, P99]).
