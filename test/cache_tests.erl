%%% @doc Reading of the node's cache, with recorded and written stores: the paths of slots,
%%% and the checks.
-module(cache_tests).
-include_lib("eunit/include/eunit.hrl").

-define(ALL, [
    slots_are_found_by_doubling_and_not_by_listing,
    a_later_slot_counts_only_when_it_is_scheduled,
    recorded_slots_pass_the_checks_and_have_their_results,
    a_sender_is_the_signer_or_the_process_that_the_node_names,
    a_place_with_thousands_of_signatures_costs_no_more_than_one_with_two,
    a_state_that_differs_from_its_process_is_withheld,
    a_process_message_must_be_what_its_id_names,
    commitments_of_others_change_nothing,
    a_process_without_a_local_store_has_no_cache,
    values_are_loaded_within_a_budget,
    a_half_written_message_raises,
    a_node_without_content_ids_is_believed
]).

cache_test_() ->
    [{timeout, 600, {atom_to_list(Name), fun() -> ?MODULE:Name() end}} || Name <- ?ALL].

-compile([export_all, nowarn_export_all]).

slots_are_found_by_doubling_and_not_by_listing() ->
    with(recorded("island"), fun(Cache, Id) ->
        ?assertEqual(2, dev_websocket_cache:newest_slot(Cache, Id, 0)),
        ?assert(dev_websocket_cache:has_slot(Cache, Id, 77)),
        ?assertEqual(2, dev_websocket_cache:newest_slot(Cache, Id, 3))
    end),
    Store = stand_in:empty(),
    Id = stand_in:process(Store, #{}),
    with(Store, fun(Cache) ->
        ?assertEqual(-1, dev_websocket_cache:newest_slot(Cache, Id, 0)),
        lists:foreach(
            fun(Slot) ->
                _ = stand_in:compute(Store, Id, Slot, #{}),
                ?assertEqual(Slot, dev_websocket_cache:newest_slot(Cache, Id, 0))
            end,
            lists:seq(0, 70)
        ),
        Before = stand_in:calls(Store),
        ?assertEqual(70, dev_websocket_cache:newest_slot(Cache, Id, 0)),
        %% At most two looks for each power of two, and one more.
        ?assert(stand_in:calls(Store) - Before =< 15)
    end).

a_later_slot_counts_only_when_it_is_scheduled() ->
    with(recorded("island"), fun(Cache, Id) ->
        {ok, Process} = dev_websocket_process:find(Cache, Id),
        ?assertMatch(#{is_scheduled_here := true}, Process),
        %% Slot 77 is there and was never assigned.
        ?assertEqual(none, dev_websocket_cache:later_slot(Cache, Process, 3, 1024))
    end),
    with(recorded("hole"), fun(Cache, Id) ->
        Elsewhere = #{id => Id, is_scheduled_here => false},
        ?assertEqual({ok, 5}, dev_websocket_cache:later_slot(Cache, Elsewhere, 4, 1024))
    end),
    Store = stand_in:empty(),
    Id = stand_in:process(Store, #{}),
    [_ = stand_in:compute(Store, Id, Slot, #{}) || Slot <- lists:seq(500, 600)],
    with(Store, fun(Cache) ->
        {ok, Process} = dev_websocket_process:find(Cache, Id),
        ?assertEqual({ok, 500}, dev_websocket_cache:later_slot(Cache, Process, 0, 1 bsl 20)),
        ?assertEqual(none, dev_websocket_cache:later_slot(Cache, Process, 0, 256))
    end).

recorded_slots_pass_the_checks_and_have_their_results() ->
    lists:foreach(
        fun({Name, Slots}) ->
            with(recorded(Name), fun(Cache, Id) ->
                {ok, Process} = dev_websocket_process:find(Cache, Id),
                [
                    begin
                        {ok, Found} = dev_websocket_process:slot(Cache, Process, Slot),
                        ?assertMatch({Name, Slot, #{results := _, state := _}}, {Name, Slot, Found}),
                        ?assertMatch({_, _, #{assignment := _, sender := _}}, {Name, Slot, dev_websocket_process:facts(Cache, Found)}),
                        ?assert(dev_websocket_process:scheduled_at(Cache, Id, Slot) > 1_000_000_000_000)
                    end
                 ||
                    Slot <- Slots
                ],
                Beyond = lists:last(Slots) + 1,
                ?assertEqual(missing, dev_websocket_process:slot(Cache, Process, Beyond))
            end)
        end,
        [{"ledger", [0, 1, 2]}, {"pushed", [0, 1]}, {"september", [0, 1, 2, 3, 4, 5]}, {"island", [0, 1, 2]}]
    ).

a_sender_is_the_signer_or_the_process_that_the_node_names() ->
    Store = stand_in:empty(),
    #{address := Node} = stand_in:options(Store),
    Id = stand_in:process(Store, #{}),
    Other = stand_in:id(),
    with(Store, fun(Cache) ->
        Sender = fun(Slot, Keys) ->
            _ = stand_in:schedule(Store, Id, Slot, Keys),
            maps:get(sender, dev_websocket_process:facts(Cache, #{process => Id, slot => Slot}), unknown)
        end,
        ?assertEqual(<<"WALLET">>, Sender(1, #{signer => <<"WALLET">>})),
        ?assertEqual(Other, Sender(2, #{signer => Node, <<"from-process">> => Other})),
        ?assertEqual(Node, Sender(3, #{signer => Node})),
        %% Only the node may say for whom it signs.
        ?assertEqual(<<"WALLET">>, Sender(4, #{signer => <<"WALLET">>, <<"from-process">> => Other})),
        ?assertEqual(unknown, Sender(5, #{<<"commitments">> => #{}})),
        ?assertEqual(#{}, dev_websocket_process:facts(Cache, #{process => Id, slot => 6}))
    end).

%% Equal messages share one place, like those of a clock that sends one every minute.
a_place_with_thousands_of_signatures_costs_no_more_than_one_with_two() ->
    Store = stand_in:empty(),
    with(Store, fun(Cache) ->
        ?assertNot(dev_websocket_cache:has_slot(Cache, stand_in:id(), 0)),
        Calls = fun(Count) ->
            Signatures = maps:from_list([{stand_in:id(), #{<<"committer">> => stand_in:id()}} || _ <- lists:seq(1, Count)]),
            Id = stand_in:write(Store, #{<<"n">> => Count, <<"commitments">> => Signatures}),
            Before = stand_in:calls(Store),
            Found = dev_websocket_whole:committers(Cache, {path, Id}),
            ?assertEqual(min(Count, 2), length(Found)),
            stand_in:calls(Store) - Before
        end,
        ?assertEqual(Calls(2), Calls(3_000)),
        ?assert(Calls(1) < Calls(2))
    end).

a_state_that_differs_from_its_process_is_withheld() ->
    Store = stand_in:empty(),
    Id = stand_in:process(Store, #{}),
    Other = stand_in:process(Store, #{}),
    with(Store, fun(Cache) ->
        {ok, Process} = dev_websocket_process:find(Cache, Id),
        Withheld = fun(Change) ->
            _ = stand_in:compute(Store, Id, 0, #{<<"n">> => erlang:unique_integer()}),
            ?assertMatch({ok, _}, dev_websocket_process:slot(Cache, Process, 0)),
            Change(),
            dev_websocket_process:slot(Cache, Process, 0)
        end,
        Key = fun(Name, Value) -> fun() -> stand_in:forge(Store, Id, 0, #{Name => Value}) end end,
        ?assertEqual({withheld, at_slot}, Withheld(Key(<<"at-slot">>, <<"7">>))),
        ?assertEqual({withheld, at_slot}, Withheld(Key(<<"at-slot">>, <<"0x">>))),
        ?assertEqual({withheld, process}, Withheld(Key(<<"process+link">>, Other))),
        [
            ?assertEqual({Name, {withheld, definition}}, {Name, Withheld(Key(Name, stand_in:id()))})
         ||
            Name <- [
                <<"device-stack+link">>, <<"execution-device">>, <<"module+link">>,
                <<"scheduler">>, <<"authority">>, <<"authority+link">>
            ]
        ],
        ?assertEqual(
            {withheld, not_scheduled},
            Withheld(fun() ->
                #{<<"table">> := Table} = Store,
                ets:delete(Table, <<"assignments/", Id/binary, "/0">>)
            end)
        )
    end).

a_process_message_must_be_what_its_id_names() ->
    Store = stand_in:empty(),
    with(Store, fun(Cache) ->
        Good = stand_in:process(Store, #{}),
        ?assertMatch({ok, _}, dev_websocket_process:find(Cache, Good)),
        ?assertEqual(missing, dev_websocket_process:find(Cache, stand_in:id())),
        [
            ?assertEqual({withheld, process_message}, dev_websocket_process:find(Cache, stand_in:process(Store, #{Key => 1})))
         ||
            Key <- [<<"initialized">>, <<"at-slot">>, <<"results">>]
        ],
        %% Content that the signature does not hold for, under the id of the good one.
        Forged = stand_in:process(Store, #{<<"forged">> => 1}),
        ?assertEqual({withheld, process_message}, dev_websocket_process:find(Cache, Forged)),
        MadeUp = stand_in:write(Store, #{
            <<"device">> => <<"process@1.0">>,
            <<"commitments">> => #{Good => #{<<"committer">> => <<"x">>, <<"signature">> => <<"none">>}}
        }),
        stand_in:overwrite(Store, Good, {link, MadeUp}),
        ?assertEqual({withheld, process_message}, dev_websocket_process:find(Cache, Good)),
        Unsigned = stand_in:write(Store, #{<<"device">> => <<"process@1.0">>}),
        stand_in:overwrite(Store, Good, {link, Unsigned}),
        ?assertEqual({withheld, process_message}, dev_websocket_process:find(Cache, Good))
    end).

commitments_of_others_change_nothing() ->
    Store = stand_in:empty(),
    with(Store, fun(Cache) ->
        Id = stand_in:id(),
        Message = #{
            <<"device">> => <<"process@1.0">>,
            <<"commitments">> => #{
                Id => #{<<"committer">> => <<"owner">>, <<"signature">> => Id},
                stand_in:id() => #{<<"committer">> => <<"stranger">>, <<"signature">> => <<"nonsense">>}
            }
        },
        stand_in:overwrite(Store, Id, {link, stand_in:write(Store, Message)}),
        ?assertMatch({ok, _}, dev_websocket_process:find(Cache, Id))
    end).

a_process_without_a_local_store_has_no_cache() ->
    Store = stand_in:empty(),
    stand_in:with(stand_in:options(Store), fun() ->
        Opts = stand_in:options(Store),
        Remote = Store#{<<"scope">> => remote},
        ?assertMatch({ok, _}, dev_websocket_cache:open(Opts)),
        ?assertMatch({ok, _}, dev_websocket_cache:open(Opts#{store => Store})),
        ?assertEqual({error, no_local_store}, dev_websocket_cache:open(Opts#{store => [Remote]})),
        ?assertEqual({error, no_local_store}, dev_websocket_cache:open(maps:remove(store, Opts))),
        [?assertMatch({error, _}, dev_websocket_cache:open(Odd)) || Odd <- [Opts#{store => 5}, Opts#{store => [5]}, nothing, []]],
        {ok, #{opts := Scoped}} = dev_websocket_cache:open(Opts#{store => [Remote, Store]}),
        ?assertEqual([Store], maps:get(store, Scoped))
    end),
    ?assertEqual({error, no_node}, dev_websocket_cache:open(stand_in:options(Store))).

values_are_loaded_within_a_budget() ->
    Store = stand_in:empty(),
    Deep = lists:foldl(fun(N, Inner) -> #{<<"n">> => N, <<"in">> => Inner} end, #{}, lists:seq(1, 200)),
    Many = maps:from_list([{integer_to_binary(N), binary:copy(<<"x">>, 1000)} || N <- lists:seq(1, 100)]),
    Ids = [stand_in:write(Store, Message) || Message <- [Deep, Many, #{<<"list">> => [1, <<"b">>, #{<<"c">> => 3}], <<"e">> => []}]],
    with(Store, fun(Cache) ->
        [DeepLink, ManyLink, Small] = [{link, Id, #{}} || Id <- Ids],
        ?assertMatch(
            {#{<<"list">> := [1, <<"b">>, #{<<"c">> := 3}], <<"e">> := []}, Left} when Left > 900,
            dev_websocket_whole:load(Cache, Small, 1000)
        ),
        {Loaded, Over} = dev_websocket_whole:load(Cache, ManyLink, 10_000),
        ?assert(Over =< 0 andalso Over > -2_000),
        Links = [Value || {link, _, _} = Value <- maps:values(Loaded)],
        ?assert(length(Links) > 80 andalso length(Links) < 95),
        {Bounded, _} = dev_websocket_whole:load(Cache, DeepLink, 1_000_000),
        ?assert(depth(Bounded) < 64)
    end).

a_half_written_message_raises() ->
    Store = stand_in:empty(),
    Id = stand_in:process(Store, #{}),
    State = stand_in:compute(Store, Id, 0, #{<<"output">> => #{<<"data">> => <<"x">>}}),
    with(Store, fun(Cache) ->
        {ok, Process} = dev_websocket_process:find(Cache, Id),
        {ok, #{results_id := ResultsId}} = dev_websocket_process:slot(Cache, Process, 0),
        #{<<"table">> := Table} = Store,
        ets:delete(Table, ResultsId),
        ?assertError(_, dev_websocket_process:slot(Cache, Process, 0)),
        ets:delete(Table, <<State/binary, "/results+link">>),
        ?assertError({not_whole, _}, dev_websocket_process:slot(Cache, Process, 0)),
        %% A state that never had results.
        stand_in:overwrite(Store, <<State/binary, "/results+link">>, {value, ResultsId}),
        _ = stand_in:forge(Store, Id, 0, #{<<"results+link">> => none}),
        ?assertMatch({ok, #{results := Empty}} when Empty =:= #{}, dev_websocket_process:slot(Cache, Process, 0))
    end).

%% There is nothing to compare with, and the results come.
a_node_without_content_ids_is_believed() ->
    Store = stand_in:empty(),
    Opts = stand_in:options(Store),
    Id = stand_in:process(Store, #{}),
    State = stand_in:compute(Store, Id, 0, #{<<"data">> => <<"x">>, <<"error">> => <<"e">>}),
    #{<<"results+link">> := Results} = stand_in:stored(Store, State),
    stand_in:overwrite(Store, <<Results/binary, "/data">>, {value, <<"y">>}),
    Read = fun() ->
        {ok, Cache} = dev_websocket_cache:open(Opts),
        dev_websocket_whole:message(Cache, Results)
    end,
    ?assertEqual(#{<<"data">> => <<"y">>, <<"error">> => <<"e">>}, stand_in:with({without_ids, Opts}, Read)),
    ?assertError({not_whole, Results}, stand_in:with({june, Opts}, Read)).

%%% Helpers.

recorded(Name) -> {Name, stand_in:recorded(Name)}.

with({Name, Store}, Run) ->
    {Id, Address, Generation} = facts(Name, Store),
    Opts = (stand_in:options(Store))#{address => Address},
    stand_in:with({Generation, Opts}, fun() ->
        {ok, Cache} = dev_websocket_cache:open(Opts),
        Run(Cache, Id)
    end);
with(Store, Run) ->
    Opts = stand_in:options(Store),
    stand_in:with(Opts, fun() ->
        {ok, Cache} = dev_websocket_cache:open(Opts),
        Run(Cache)
    end).

%% @doc The process of a recorded store, and the address of the node that scheduled it.
facts(Name, Store) ->
    #{roots := [<<"computed/", Id:43/binary>> | _]} = recorded:term("slot_store_" ++ Name),
    {Id, address(Store, Id), case Name of "september" -> september; _ -> june end}.

%% @doc The address of the node that scheduled the process.
address(#{<<"table">> := Table}, Id) ->
    case [Value || {_, {value, Value}} <- [hd(ets:lookup(Table, Path) ++ [{none, none}]) || Path <- scheduler_paths(Table, Id)]] of
        [Found | _] -> Found;
        [] -> <<"unknown">>
    end.

scheduler_paths(Table, Id) ->
    Root = case ets:lookup(Table, Id) of
        [{_, {link, Target}}] -> Target;
        _ -> Id
    end,
    [
        case ets:lookup(Table, <<Root/binary, "/", Key/binary>>) of
            [{_, {link, Data}}] -> Data;
            _ -> <<Root/binary, "/", Key/binary>>
        end
     ||
        Key <- [<<"scheduler">>, <<"scheduler-location">>]
    ].

depth(Map) when is_map(Map) -> 1 + lists:max([0 | [depth(Value) || Value <- maps:values(Map)]]);
depth(_) -> 0.
