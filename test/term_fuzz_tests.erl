%%% @doc A short run of the term fuzzer, which `make fuzz' runs for longer.
-module(term_fuzz_tests).
-include_lib("eunit/include/eunit.hrl").

changed_terms_are_published_or_counted_test_() ->
    {timeout, 900, fun() ->
        Seed = erlang:system_time(millisecond),
        ?debugFmt("seed ~b", [Seed]),
        #{calls := Calls, published := Published, frames := Frames} = term_fuzz:run(#{seed => Seed, calls => 3000}),
        ?assertEqual(3000, Calls),
        ?assert(Published > 1000),
        ?assert(Frames > 500),
        ok = dev_websocket:stop()
    end}.
