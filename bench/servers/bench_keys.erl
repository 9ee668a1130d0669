%%% @doc What the keys of the device cost the node that calls them, over the terms
%%% that a real node handed over: `bench/keys' runs it.
-module(bench_keys).
-export([main/0]).

-define(CALLS, 20000).

main() ->
    ok = dev_websocket:start(#{host => <<"127.0.0.1">>, port => 0}),
    row("", "median us", "p99 us"),
    each("info/1", fun(_) -> dev_websocket:info(#{}) end),
    {Handler, Steps, Opts} = recorded:call("step_hook_noise"),
    Noise = list_to_tuple(Steps),
    each("step of no concern", fun(N) -> dev_websocket:step(Handler, element(N rem tuple_size(Noise) + 1, Noise), Opts) end),
    {Hook, Response, Node} = recorded:call("response_hook_meta"),
    each("response of no concern", fun(_) -> dev_websocket:response(Hook, Response, Node) end),
    compute("compute, published (3 frames)", 1),
    compute("compute, published before", 0),
    ok = dev_websocket:start(#{history_bytes => 0}),
    compute("compute, nobody listens", 1),
    halt().

%% @doc Each call is another slot, or always the same.
compute(What, Step) ->
    {_, {Base, Request, Opts}} = recorded:fresh(recorded:call("compute_stack_slot1_loaded")),
    Calls = list_to_tuple([
        {Base#{<<"at-slot">> => N * Step}, Request#{<<"slot">> => N * Step + 1}}
     ||
        N <- lists:seq(0, ?CALLS)
    ]),
    each(What, fun(N) ->
        {Before, Assignment} = element(N + 1, Calls),
        dev_websocket:compute(Before, Assignment, Opts)
    end).

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
    io:format("~-32s~12s~12s~n", [What, Median, P99]).
