%%% @doc The edges of slots: one message for each, in the shape of aoconnect's `results'.
-module(slot_edge_tests).
-include_lib("eunit/include/eunit.hrl").

edges_test_() ->
    followed:cases(?MODULE, [
        an_edge_has_the_output_the_messages_and_the_spawns,
        a_process_without_results_has_an_empty_edge,
        events_in_outputs_come_before_the_edge,
        an_error_is_part_of_an_edge,
        the_answer_of_a_compute_unit_is_the_node,
        stores_of_both_layouts_have_edges,
        only_clients_of_edges_get_them,
        past_edges_come_before_new_ones,
        a_client_that_comes_within_a_slot_gets_its_edge,
        a_slot_of_thousands_of_messages_has_an_edge,
        a_slot_that_is_too_large_is_told
    ]).

seam_test_() ->
    followed:cases(?MODULE, [each_edge_comes_once_at_every_seam], 600 + slot_replay_tests:seams()).

-compile([export_all, nowarn_export_all]).

an_edge_has_the_output_the_messages_and_the_spawns(Store) ->
    Id = stand_in:process(Store, #{}),
    Client = client(Id, ""),
    _ = stand_in:compute(Store, Id, 0, #{
        <<"output">> => #{<<"data">> => <<"printed">>, <<"print">> => true, <<"prompt">> => <<"aos> ">>},
        <<"outbox">> => #{
            <<"1">> => #{
                <<"target">> => <<"T1">>, <<"action">> => <<"Credit-Notice">>, <<"x-quantity">> => 7,
                <<"data">> => <<"hello">>, <<"anchor">> => <<"00000000000000000000000000000001">>
            },
            <<"2">> => #{
                <<"Target">> => <<"T2">>,
                <<"Tags">> => [#{<<"name">> => <<"Action">>, <<"value">> => <<"Notify">>}, #{<<"name">> => <<"X-b">>, <<"value">> => <<"B">>}]
            },
            <<"3">> => #{<<"type">> => <<"Process">>, <<"module">> => <<"M">>, <<"data">> => <<"1984">>},
            <<"4">> => <<"plain">>
        }
    }),
    ?assertEqual(
        #{
            <<"cursor">> => <<"0">>,
            <<"node">> => #{
                <<"Output">> => #{<<"data">> => <<"printed">>, <<"print">> => true, <<"prompt">> => <<"aos> ">>},
                <<"Messages">> => [
                    message(<<"T1">>, <<"hello">>, <<"00000000000000000000000000000001">>, [{<<"Action">>, <<"Credit-Notice">>}, {<<"X-Quantity">>, <<"7">>}]),
                    message(<<"T2">>, <<>>, <<>>, [{<<"Action">>, <<"Notify">>}, {<<"X-b">>, <<"B">>}]),
                    message(<<>>, <<"plain">>, <<>>, [])
                ],
                <<"Spawns">> => [message(<<>>, <<"1984">>, <<>>, [{<<"Module">>, <<"M">>}, {<<"Type">>, <<"Process">>}])],
                <<"Assignments">> => []
            }
        },
        next(Client)
    ).

a_process_without_results_has_an_empty_edge(Store) ->
    Id = stand_in:process(Store, #{}),
    Client = client(Id, ""),
    _ = stand_in:compute(Store, Id, 0, #{}),
    _ = stand_in:compute(Store, Id, 1, #{<<"data">> => <<"text">>}),
    ?assertEqual(edge(0, #{}), next(Client)),
    ?assertEqual(edge(1, #{<<"Output">> => #{<<"data">> => <<"text">>}}), next(Client)).

events_in_outputs_come_before_the_edge(Store) ->
    Id = stand_in:process(Store, #{}),
    Json = fresh_server:client(["process=", Id]),
    Client = client(Id, ""),
    Output = #{<<"data">> => <<"{\"_e\":1,\"N\":1}\ntext">>},
    _ = stand_in:compute(Store, Id, 0, #{<<"output">> => Output, <<"outbox">> => #{<<"1">> => #{<<"n">> => 0}}}),
    #{<<"node">> := #{<<"Output">> := Output, <<"Messages">> := [_]}} = next(Client),
    Data = [Data || #{<<"data">> := Data} <- followed:frames(Json, 3)],
    ?assertMatch([#{<<"event-count">> := 1, <<"outbox-count">> := 1}, #{<<"n">> := 0}, #{<<"_e">> := 1, <<"N">> := 1}], Data),
    followed:nothing_comes(Json).

an_error_is_part_of_an_edge(Store) ->
    Id = stand_in:process(Store, #{}),
    Client = client(Id, ""),
    _ = stand_in:compute(Store, Id, 0, #{<<"error">> => <<"boom">>}),
    ?assertEqual(edge(0, #{<<"Error">> => <<"boom">>}), next(Client)).

the_answer_of_a_compute_unit_is_the_node(Store) ->
    Id = stand_in:process(Store, #{}),
    Client = client(Id, ""),
    %% As `json-iface@1.0' stores it, and as newer nodes do.
    Body = <<"{\"Output\":{\"data\":\"1\",\"Kept\":2},\"Messages\":[{\"Target\":\"T\",\"Tags\":[{\"name\":\"aB\",\"value\":\"c\"}]}],\"GasUsed\":1,\"Error\":\"e\"}">>,
    Outbox = #{<<"1">> => #{<<"target">> => <<"T">>, <<"ab">> => <<"c">>}},
    with_json(fun() ->
        _ = stand_in:compute(Store, Id, 0, #{<<"outbox">> => Outbox, <<"json">> => #{<<"content-type">> => <<"application/json">>, <<"body">> => Body}}),
        _ = stand_in:compute(Store, Id, 1, #{<<"outbox">> => Outbox, <<"raw">> => #{<<"output">> => #{<<"data">> => <<"2">>}, <<"spawns">> => []}}),
        _ = stand_in:compute(Store, Id, 2, #{<<"outbox">> => Outbox, <<"json">> => #{<<"body">> => <<"{no JSON">>}}),
        Sent = #{<<"Target">> => <<"T">>, <<"Tags">> => [#{<<"name">> => <<"aB">>, <<"value">> => <<"c">>}]},
        ?assertEqual(
            edge(0, #{<<"Output">> => #{<<"data">> => <<"1">>, <<"Kept">> => 2}, <<"Messages">> => [Sent], <<"Error">> => <<"e">>}),
            next(Client)
        ),
        ?assertEqual(edge(1, #{<<"Output">> => #{<<"data">> => <<"2">>}}), next(Client)),
        ?assertEqual(edge(2, #{<<"Messages">> => [message(<<"T">>, <<>>, <<>>, [{<<"Ab">>, <<"c">>}])]}), next(Client))
    end).

stores_of_both_layouts_have_edges(_Store) ->
    lists:foreach(
        fun({Name, Generation}) ->
            Recorded = stand_in:recorded(Name),
            #{roots := [<<"computed/", Id:43/binary>> | _]} = recorded:term("slot_store_" ++ Name),
            Opts = (stand_in:options(Recorded))#{address => cache_tests:address(Recorded, Id)},
            Slots = recorded_results_tests:slots_of(Name),
            stand_in:beside({Generation, Opts}, fun() ->
                ok = dev_websocket_tails:use_options(Opts),
                Edges = until_live(client(Id, "&from-slot=0")),
                ?assertEqual([integer_to_binary(Slot) || Slot <- Slots], [Cursor || #{<<"cursor">> := Cursor} <- Edges]),
                Messages = [Message || #{<<"node">> := #{<<"Messages">> := Sent}} <- Edges, Message <- Sent],
                ?assert(length(Messages) > 1),
                [
                    begin
                        ?assertMatch(#{<<"Target">> := <<_/binary>>, <<"Data">> := _, <<"Anchor">> := _}, Message),
                        ?assert(lists:any(fun(#{<<"name">> := Tag}) -> Tag =:= <<"Action">> end, Tags))
                    end
                 ||
                    #{<<"Tags">> := Tags} = Message <- Messages
                ]
            end)
        end,
        [{"ledger", june}, {"september", september}]
    ).

only_clients_of_edges_get_them(Store) ->
    Id = stand_in:process(Store, #{}),
    All = fresh_server:client("topic=*"),
    First = client(Id, ""),
    _ = stand_in:compute(Store, Id, 0, results(0)),
    ?assertMatch(#{<<"cursor">> := <<"0">>}, next(First)),
    ?assertMatch([#{<<"data">> := #{<<"type">> := <<"result">>}}, #{<<"data">> := #{<<"n">> := 0}}], followed:frames(All, 2)),
    ok = ws_client:close(First),
    followed:until(fun() -> not hb_websocket_nif:wants_edges(Id) end),
    _ = stand_in:compute(Store, Id, 1, results(1)),
    ?assertMatch([#{<<"slot">> := 1}, #{<<"slot">> := 1}], followed:frames(All, 2)),
    followed:nothing_comes(All).

past_edges_come_before_new_ones(Store) ->
    Id = stand_in:process(Store, #{}),
    [stand_in:compute(Store, Id, Slot, results(Slot)) || Slot <- lists:seq(0, 5)],
    Client = client(Id, "&from-slot=2"),
    ?assertEqual([<<"2">>, <<"3">>, <<"4">>, <<"5">>], [Cursor || #{<<"cursor">> := Cursor} <- until_live(Client)]),
    [stand_in:compute(Store, Id, Slot, results(Slot)) || Slot <- [6, 7]],
    ?assertMatch([#{<<"cursor">> := <<"6">>}, #{<<"cursor">> := <<"7">>}], followed:frames(Client, 2)),
    followed:nothing_comes(Client).

a_client_that_comes_within_a_slot_gets_its_edge(Store) ->
    Id = stand_in:process(Store, #{}),
    Json = fresh_server:client(["process=", Id]),
    %% A reader has published the events of a slot, and not its end, when the client comes.
    {ok, 0, 0, []} = hb_websocket_nif:set_slot_mark(Id, 0),
    ok = hb_websocket_nif:publish_slot(Id, 0, 0, [{#{<<"n">> => N}, #{}} || N <- [0, 1]], false),
    Client = client(Id, ""),
    ?assertEqual({error, edge_wanted}, hb_websocket_nif:publish_slot(Id, 0, 2, [], true)),
    _ = stand_in:compute(Store, Id, 0, results(0)),
    ?assertMatch(#{<<"cursor">> := <<"0">>}, next(Client)),
    ?assertMatch([#{<<"data">> := #{<<"n">> := 0}}, #{<<"data">> := #{<<"n">> := 1}}], followed:frames(Json, 2)),
    followed:nothing_comes(Json).

a_slot_of_thousands_of_messages_has_an_edge(Store) ->
    Id = stand_in:process(Store, #{}),
    Json = fresh_server:client(["process=", Id]),
    Client = client(Id, ""),
    Count = 3000,
    _ = stand_in:compute(Store, Id, 0, #{<<"outbox">> => maps:from_list([{integer_to_binary(N), #{<<"n">> => N}} || N <- lists:seq(1, Count)])}),
    #{<<"node">> := #{<<"Messages">> := Messages}} = next(Client),
    ?assertEqual(
        [integer_to_binary(N) || N <- lists:seq(1, Count)],
        [Value || #{<<"Tags">> := [#{<<"name">> := <<"N">>, <<"value">> := Value}]} <- Messages]
    ),
    Numbers = [N || #{<<"data">> := #{<<"n">> := N}} <- followed:frames(Json, Count + 1)],
    ?assertEqual(lists:seq(1, Count), Numbers).

a_slot_that_is_too_large_is_told(Store) ->
    Id = stand_in:process(Store, #{}),
    Client = client(Id, ""),
    Before = followed:count(<<"publications">>),
    Large = fun(Count) ->
        maps:from_list([{integer_to_binary(N), #{<<"n">> => N, <<"data">> => binary:copy(<<"x">>, 200_000)}} || N <- lists:seq(1, Count)])
    end,
    %% More than max_message_bytes as JSON, and more than is loaded.
    [stand_in:compute(Store, Id, Slot, #{<<"outbox">> => Large(Count)}) || {Slot, Count} <- [{0, 8}, {1, 40}]],
    [
        ?assertEqual(
            #{
                <<"cursor">> => integer_to_binary(Slot),
                <<"node">> => #{<<"$omitted">> => <<"too_large">>, <<"$get">> => <<"/", Id/binary, "~process@1.0/compute&slot=", (integer_to_binary(Slot))/binary>>}
            },
            next(Client)
        )
     ||
        Slot <- [0, 1]
    ],
    %% The slots have all of their events, and an edge each.
    ?assertEqual(1 + 8 + 1 + 1 + 40 + 1, followed:count(<<"publications">>) - Before).

%% Clients of edges come and go while slots are computed, so edges are wanted in the middle of
%% slots that a reader has in hand.
each_edge_comes_once_at_every_seam(Store) ->
    Id = stand_in:process(Store, #{}),
    _ = fresh_server:client(["process=", Id, "&slow=latest"]),
    tails_tests:until_followed(Id, 0),
    Clients = [1, 2],
    Seen = counters:new(length(Clients), []),
    Over = counters:new(1, []),
    Test = self(),
    Publisher = spawn_link(fun() -> slot_replay_tests:publish(Store, Id, 0, {Seen, Clients}, Over) end),
    [
        spawn_link(fun() ->
            [seam(Id, N, {Seen, Number}) || N <- lists:seq(1, slot_replay_tests:seams() div length(Clients))],
            counters:put(Seen, Number, 1 bsl 60),
            Test ! {done, Number}
        end)
     || Number <- Clients
    ],
    [receive {done, Number} -> ok end || Number <- Clients],
    counters:add(Over, 1, 1),
    Monitor = monitor(process, Publisher),
    receive {'DOWN', Monitor, process, Publisher, _} -> ok end,
    ?assertEqual(0, followed:count(<<"panics">>)).

%% One replay, and five edges after it.
seam(Id, N, {Seen, Number}) ->
    Mark = case hb_websocket_nif:slot_mark(Id) of {ok, Slot, _, _} -> Slot; none -> 0 end,
    First = max(0, Mark - N rem 5),
    counters:put(Seen, Number, First),
    Client = client(Id, ["&from-slot=", integer_to_list(First)]),
    after_live(Client, First, live, {Seen, Number}),
    ws_client:abort(Client).

after_live(_Client, _Slot, 0, _Seen) ->
    ok;
after_live(Client, Slot, Left, {Seen, Number} = Counter) ->
    counters:put(Seen, Number, Slot),
    Cursor = integer_to_binary(Slot),
    case next(Client) of
        #{<<"cursor">> := Cursor} when Left =:= live -> after_live(Client, Slot + 1, live, Counter);
        #{<<"cursor">> := Cursor} -> after_live(Client, Slot + 1, Left - 1, Counter);
        #{<<"type">> := <<"live">>, <<"slot">> := Slot} when Left =:= live -> after_live(Client, Slot, 5, Counter);
        Other -> error({wanted, Slot, Other})
    end.

%%% Helpers.

client(Id, Rest) ->
    fresh_server:client(["format=edges&process=", Id, Rest]).

next(Client) -> ws_client:recv_json(Client).

results(Slot) -> #{<<"outbox">> => #{<<"1">> => #{<<"n">> => Slot}}}.

edge(Slot, Node) ->
    Empty = #{<<"Output">> => #{}, <<"Messages">> => [], <<"Spawns">> => [], <<"Assignments">> => []},
    #{<<"cursor">> => integer_to_binary(Slot), <<"node">> => maps:merge(Empty, Node)}.

message(Target, Data, Anchor, Tags) ->
    #{
        <<"Target">> => Target, <<"Data">> => Data, <<"Anchor">> => Anchor,
        <<"Tags">> => [#{<<"name">> => Name, <<"value">> => Value} || {Name, Value} <- Tags]
    }.

until_live(Client) ->
    case next(Client) of
        #{<<"type">> := <<"live">>} -> [];
        Frame -> [Frame | until_live(Client)]
    end.

%% @doc A node reads JSON with `hb_json'.
with_json(Run) ->
    Forms = [
        {attribute, 1, module, hb_json}, {attribute, 1, export, [{decode, 1}]},
        {function, 1, decode, 1, [{clause, 1, [{var, 1, 'T'}], [], [{call, 1, {remote, 1, {atom, 1, json_reader}, {atom, 1, decode}}, [{var, 1, 'T'}]}]}]}
    ],
    {ok, hb_json, Beam} = compile:forms(Forms),
    {module, hb_json} = code:load_binary(hb_json, "hb_json.beam", Beam),
    try Run()
    after
        code:delete(hb_json),
        code:purge(hb_json)
    end.
