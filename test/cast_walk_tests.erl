%%% @doc A cast writes a message while it walks the term. The same message, when it is read
%%% as a whole first, must give the same data and topics.
%%%
%%% An atom among the keys makes the engine read a map as a whole. The key used here makes no
%%% topic, and one entry of the data.
-module(cast_walk_tests).
-include_lib("eunit/include/eunit.hrl").

-define(TERMS, 3000).
-define(MARK, zzmark).

walk_test_() ->
    {setup,
        fun() ->
            ok = dev_websocket:stop(),
            ok = dev_websocket:start(#{send_buffer_bytes => 256 * 1024 * 1024})
        end,
        fun(_) -> dev_websocket:stop() end,
        [
            {timeout, 600, fun random_maps_are_the_same_either_way/0},
            fun tags_in_every_form_make_the_same_topics/0,
            fun a_large_map_with_mixed_keys_is_read_as_a_whole/0,
            fun keys_that_stay_in_the_node_are_not_read/0
        ]}.

random_maps_are_the_same_either_way() ->
    Seed = erlang:system_time(millisecond),
    _ = rand:seed(exsss, Seed),
    ?debugFmt("seed ~b", [Seed]),
    same([random_map() || _ <- lists:seq(1, ?TERMS)]).

tags_in_every_form_make_the_same_topics() ->
    Name = fun(N, V) -> #{<<"name">> => N, <<"value">> => V} end,
    Lists = [
        [Name(<<"Action">>, <<"Mint">>), Name(<<"topic">>, <<"a,b">>)],
        [[<<"Action">>, <<"Mint">>], [<<"Topic">>, "charlist"]],
        [{<<"Action">>, <<"Mint">>}, {<<"Topic">>, <<"c">>}],
        [[{name, <<"Action">>}, {value, <<"Mint">>}]],
        #{<<"Action">> => 7, <<"topics">> => [<<"x">>, 5, "y"]},
        #{action => mint, 5 => true},
        <<"text">>,
        []
    ],
    Topics = [<<"a,b">>, "a,b", [<<"a">>, "b", 5, [1]], {<<"a">>, b}, #{<<"a">> => 1}, [], 5, a, <<255>>],
    same(
        [#{<<"Tags">> => List, <<"tags">> => Other, <<"topic">> => <<"t">>} || List <- Lists, Other <- Lists] ++
            [#{Key => Topic, <<"k">> => <<"v">>} || Topic <- Topics, Key <- [<<"topic">>, <<" Topics ">>]]
    ).

a_large_map_with_mixed_keys_is_read_as_a_whole() ->
    Client = client(),
    Many = maps:from_list([{<<"k", (integer_to_binary(N))/binary>>, N} || N <- lists:seq(1, 40)]),
    Equal = #{<<"a">> => 1, a => 2, <<255>> => 3, <<"b">> => #{<<"nested">> => Many#{1 => one, k2 => two}}},
    {ok, _} = dev_websocket:cast(Many#{atom => 1, <<"deep">> => Equal}, #{}),
    #{<<"data">> := Data} = ws_client:recv_json(Client),
    ?assertEqual(42, map_size(Data)),
    #{<<"deep">> := #{<<"b">> := #{<<"nested">> := Nested}} = Deep} = Data,
    ?assertEqual(3, map_size(Deep)),
    ?assertEqual(41, map_size(Nested)),
    ?assertEqual(<<"one">>, maps:get(<<"1">>, Nested)),
    gen_tcp:close(Client).

keys_that_stay_in_the_node_are_not_read() ->
    Client = client(),
    Secret = #{<<"private">> => lists:duplicate(100000, a), <<"Commitments">> => binary:copy(<<"c">>, 2000000)},
    {ok, _} = dev_websocket:cast(Secret#{<<"b">> => Secret#{<<"c">> => 1}}, #{}),
    ?assertEqual(#{<<"b">> => #{<<"c">> => 1}}, maps:get(<<"data">>, ws_client:recv_json(Client))),
    gen_tcp:close(Client).

%%% Helpers.

same(Maps) ->
    Client = client(),
    lists:foreach(
        fun(Map) ->
            case {cast(Client, Map), cast(Client, Map#{?MARK => <<>>})} of
                {{error, Reason}, Read} ->
                    ?assertEqual({error, Reason}, Read);
                {Walked, Read} ->
                    ?assertEqual(maps:get(<<"topics">>, Read), maps:get(<<"topics">>, Walked), Map),
                    {_, Data} = maps:take(atom_to_binary(?MARK), maps:get(<<"data">>, Read)),
                    ?assertEqual(Data, maps:get(<<"data">>, Walked), Map)
            end
        end,
        Maps
    ),
    gen_tcp:close(Client).

cast(Client, Map) ->
    case dev_websocket:try_cast(Map, #{}) of
        {ok, published} -> ws_client:recv_json(Client);
        Dropped -> Dropped
    end.

client() ->
    {ok, #{uri := Uri}} = dev_websocket:info(),
    {ok, Client} = ws_client:connect(Uri, "topic=*"),
    #{<<"type">> := <<"connection_established">>} = ws_client:recv_json(Client),
    Client.

%% @doc Keys are binaries at the top, as in a message, and anything below.
random_map() ->
    Keys = [<<"topic">>, <<"Topics">>, <<"tags">>, <<"Tags">>, <<"name">>, <<"action">>, <<"from">>, <<"priv">>, <<"a">>, <<"b">>],
    Chosen = [lists:nth(rand:uniform(length(Keys)), Keys) || _ <- lists:seq(1, rand:uniform(5))],
    maps:from_list([{Key, random_terms_tests:term(rand:uniform(3) - 1)} || Key <- Chosen]).
