%%% @doc Messages as JSON and topics: each kind of term, and each form of tags.
-module(message_tests).
-include_lib("eunit/include/eunit.hrl").

message_test_() ->
    {setup,
        fun() ->
            ok = dev_websocket:stop(),
            ok = dev_websocket:start(#{}),
            {ok, #{uri := Uri}} = dev_websocket:info(),
            Uri
        end,
        fun(_) -> dev_websocket:stop() end,
        fun(Uri) ->
            [
                {timeout, 300, {atom_to_list(Name), fun() -> ?MODULE:Name(connect(Uri)) end}}
             ||
                Name <- [
                    terms_become_json,
                    keys_become_text,
                    equal_keys_appear_once_with_the_first_value,
                    proplists_are_maps,
                    private_keys_of_a_node_are_never_published,
                    commitments_leave_when_asked_for,
                    depth_is_bounded,
                    large_integers_are_bounded,
                    every_odd_value_of_a_node_has_its_json,
                    every_odd_value_of_a_node_has_its_topics,
                    tags_become_topics_in_every_form,
                    recorded_messages_arrive
                ]
            ]
        end}.

-compile([export_all, nowarn_export_all]).

terms_become_json(Client) ->
    same_as_json(Client, [
        {null, null}, {undefined, null}, {true, true}, {false, false},
        {nil, <<"nil">>}, {'some atom', <<"some atom">>}, {'ключ', <<"ключ"/utf8>>}, {'é', <<"é"/utf8>>}, {'', <<>>},
        {0, 0}, {-7, -7},
        {9007199254740992, 9007199254740992}, {9007199254740993, <<"9007199254740993">>},
        {-9223372036854775808, <<"-9223372036854775808">>}, {9223372036854775808, <<"9223372036854775808">>},
        {-9223372036854775809, <<"-9223372036854775809">>},
        {3.5, 3.5}, {-0.25, -0.25}, {2.0, 2.0}, {1.0e-300, 1.0e-300}, {1.7976931348623157e308, 1.7976931348623157e308},
        {<<>>, <<>>}, {<<"Grüße 🚀"/utf8>>, <<"Grüße 🚀"/utf8>>}, {<<0, 31, 34, 92, 127>>, <<0, 31, 34, 92, 127>>},
        {<<255, 254>>, #{<<"$base64url">> => <<"__4">>}},
        {<<237, 160, 128>>, #{<<"$base64url">> => <<"7aCA">>}},
        {<<1:3>>, omitted("bitstring")}, {<<"ab", 1:1>>, omitted("bitstring")},
        %% A binary that does not begin at a byte of its parent.
        {begin <<_:4, Shifted:3/binary, _/bitstring>> = <<10:4, "abc", 0:4>>, Shifted end, <<"abc">>},
        {[], []}, {[1, [], <<"x">>], [1, [], <<"x">>]}, {"hi", [104, 105]},
        {[1 | 2], omitted("improper_list")}, {[a, b | <<"c">>], omitted("improper_list")},
        {{}, []}, {{a, <<"b">>, 3}, [<<"a">>, <<"b">>, 3]}, {{1}, [1]},
        {{link, <<"id/key">>, #{}}, #{<<"$link">> => <<"id/key">>}},
        {{link, <<255>>, #{}}, [<<"link">>, #{<<"$base64url">> => <<"_w">>}, #{}]},
        {{link, id, #{}}, [<<"link">>, <<"id">>, #{}]}, {{link, <<"id">>}, [<<"link">>, <<"id">>]},
        {#{}, #{}}, {#{<<"a">> => #{<<"b">> => [#{}]}}, #{<<"a">> => #{<<"b">> => [#{}]}}},
        {self(), omitted("pid")}, {make_ref(), omitted("reference")}, {fun() -> ok end, omitted("fun")},
        {fun lists:map/2, omitted("fun")}, {hd(erlang:ports()), omitted("port")},
        {#{<<"live">> => [self()]}, #{<<"live">> => [omitted("pid")]}}
    ]).

keys_become_text(Client) ->
    same_as_json(Client, [
        {#{<<"Upper">> => 1, lower => 2, 'ключ' => 3, 4 => 4, -5 => 5, <<>> => 6},
            #{<<"Upper">> => 1, <<"lower">> => 2, <<"ключ"/utf8>> => 3, <<"4">> => 4, <<"-5">> => 5, <<>> => 6}},
        {#{(1 bsl 64) => 1}, #{<<"18446744073709551616">> => 1}},
        {#{"text" => 1}, #{<<"text">> => 1}},
        {#{<<255, 254, 0>> => 1}, #{<<"$base64url:__4A">> => 1}},
        {#{{} => 1, 1.5 => 2, self() => 3, <<1:1>> => 4, #{} => 5, [] => 6, [a] => 7, [1] => 8, (1 bsl 8192) => 9, <<"k">> => 10},
            #{<<"k">> => 10}},
        {maps:from_list([{N, N} || N <- lists:seq(1, 100)]),
            maps:from_list([{integer_to_binary(N), N} || N <- lists:seq(1, 100)])}
    ]).

equal_keys_appear_once_with_the_first_value(Client) ->
    same_as_json(Client, [
        {#{a => 1, <<"a">> => 2}, #{<<"a">> => 1}},
        {#{1 => 1, <<"1">> => 2, '1' => 3}, #{<<"1">> => 1}},
        {[{<<"a">>, 1}, {a, 2}, a, {"a", 3}, {b, 4}], #{<<"a">> => 1, <<"b">> => 4}}
    ]),
    %% Equal keys in any order take no longer than as many different ones.
    Count = 20000,
    Twice = [{Key, N} || N <- lists:seq(1, Count), Key <- [integer_to_binary(N), N]],
    ok = hb_websocket_nif:cast_large(maps:from_list(Twice)),
    ok = hb_websocket_nif:cast_large(lists:map(fun({Key, N}) -> {integer_to_binary(binary_or_integer(Key)), N} end, Twice)),
    Expected = maps:from_list([{integer_to_binary(N), N} || N <- lists:seq(1, Count)]),
    ?assertEqual(Expected, ws_client:recv_json(Client)),
    ?assertEqual(Expected, ws_client:recv_json(Client)).

proplists_are_maps(Client) ->
    same_as_json(Client, [
        {[{a, 1}, {<<"b">>, 2}, {"c", 3}], #{<<"a">> => 1, <<"b">> => 2, <<"c">> => 3}},
        {[verbose, {a, 1}], #{<<"verbose">> => true, <<"a">> => 1}},
        {[{a, [{b, c}]}], #{<<"a">> => #{<<"b">> => <<"c">>}}},
        {[a, b], [<<"a">>, <<"b">>]},
        {[{a, 1}, 5], [[<<"a">>, 1], 5]},
        {[{a, 1}, {b, 2, 3}], [[<<"a">>, 1], [<<"b">>, 2, 3]]},
        {[{1, 2}], [[1, 2]]},
        {[{[], 2}], [[[], 2]]},
        {[{[1, 2], 3}], [[[1, 2], 3]]},
        {[{a, 1} | b], omitted("improper_list")}
    ]).

private_keys_of_a_node_are_never_published(Client) ->
    Own = #{
        <<"priv">> => 1, priv => 1, <<"priv_wallet">> => 1, privKey => 1, <<"PRIV-note">> => 1, "private" => 1,
        <<"priv", 255>> => 1, <<"commitments">> => #{}, commitments => #{}, <<"Commitments">> => #{}
    },
    Shown = Own#{<<"a">> => 1, <<"sprivate">> => 2, <<"pri">> => 3},
    Json = #{<<"a">> => 1, <<"sprivate">> => 2, <<"pri">> => 3},
    same_as_json(Client, [
        {Shown, Json},
        {[Shown, #{<<"deep">> => Shown}], [Json, #{<<"deep">> => Json}]},
        {maps:to_list(Shown), Json},
        {[priv, {a, 1}], #{<<"a">> => 1}}
    ]).

commitments_leave_when_asked_for(Client) ->
    ok = dev_websocket:start(#{commitments => true}),
    Message = #{<<"commitments">> => #{<<"id">> => #{<<"priv">> => 1, <<"alg">> => <<"rsa">>}}, <<"priv">> => 1},
    same_as_json(Client, [{Message, #{<<"commitments">> => #{<<"id">> => #{<<"alg">> => <<"rsa">>}}}}]),
    ok = dev_websocket:start(#{commitments => false}),
    same_as_json(Client, [{Message, #{}}]).

depth_is_bounded(Client) ->
    Nested = fun(Wrap, Depth) -> lists:foldl(fun(_, Term) -> Wrap(Term) end, 1, lists:seq(1, Depth)) end,
    List = fun(Term) -> [Term] end,
    Map = fun(Term) -> #{<<"k">> => Term} end,
    Proplist = fun(Term) -> [{<<"k">>, Term}] end,
    Tuple = fun(Term) -> {Term} end,
    Cut = fun(Wrap) -> lists:foldl(fun(_, Term) -> Wrap(Term) end, omitted("depth"), lists:seq(1, 64)) end,
    same_as_json(Client, [
        {Nested(Term, Depth), Expected}
     ||
        {Term, Json} <- [{List, List}, {Map, Map}, {Proplist, Map}, {Tuple, List}],
        {Depth, Expected} <- [
            {63, Nested(Json, 63)}, {64, Nested(Json, 64)}, {65, Cut(Json)}, {66, Cut(Json)}, {100000, Cut(Json)}
        ]
    ]).

large_integers_are_bounded(Client) ->
    Largest = (1 bsl 8192) - 1,
    same_as_json(Client, [
        {Largest, integer_to_binary(Largest)}, {-Largest, integer_to_binary(-Largest)},
        {Largest + 1, omitted("integer")}, {-Largest - 1, omitted("integer")},
        {[1 bsl 64, 1 bsl 10000, -(1 bsl 64)],
            [<<"18446744073709551616">>, omitted("integer"), <<"-18446744073709551616">>]}
    ]),
    %% One of half a megabyte, the most that OTP 27 makes, takes no longer than any other.
    Huge = lists:duplicate(1000, 1 bsl 4000000),
    {Micros, ok} = timer:tc(fun() -> hb_websocket_nif:cast(Huge) end),
    ?assert(Micros < 100000, Micros),
    ?assertEqual(lists:duplicate(1000, omitted("integer")), ws_client:recv_json(Client)).

every_odd_value_of_a_node_has_its_json(Client) ->
    Odd = fixture(odd_values),
    Same = [
        <<>>, <<"Upper-Case-Key">>, <<"a/b">>, <<"atom-false">>, <<"atom-true">>, <<"binary">>, <<"data">>, <<"empty-binary">>,
        <<"empty-list">>, <<"empty-map">>, <<"escapes">>, <<"float">>, <<"float-huge">>, <<"float-tiny">>,
        <<"float-whole">>, <<"integer">>, <<"json-text">>, <<"key with spaces">>, <<"list">>, <<"list-of-binaries">>,
        <<"list-of-chars">>, <<"long-tag">>, <<"map">>, <<"negative">>, <<"numbered-map">>, <<"plus+link">>,
        <<"schlüssel"/utf8>>, <<"utf8">>, <<"zero">>, <<"ключ"/utf8>>
    ],
    Link = fun(Target) -> #{<<"$link">> => <<"Rm4FVaxOPUsKLSnENMl_zt_X0MOhZ9NReK41Fu2nnT8", Target/binary>>} end,
    Different = #{
        <<"atom_key">> => <<"atom as key">>,
        <<"atom">> => <<"some-atom">>,
        <<"atom-null">> => null,
        <<"atom-undefined">> => null,
        <<"beyond-double">> => <<"9007199254740993">>,
        <<"big-integer">> => <<"1606938044258990275541962092341162602522202993782792835301376">>,
        <<"$base64url:a2V5__4A">> => <<"non-UTF-8 key">>,
        <<"fun-live">> => <<"#fun">>,
        <<"pid-live">> => <<"#pid">>,
        <<"link-greedy">> => Link(<<>>),
        <<"link-lazy">> => Link(<<"/key">>),
        <<"link-lazy-integer">> => Link(<<"/n">>),
        <<"link-lazy-submessage">> => Link(<<"/sub+link">>),
        <<"non-utf8">> => #{<<"$base64url">> => <<"AP_-gAE">>},
        <<"raw-id">> => #{<<"$base64url">> => <<"LXEWQrcmsEQBYnyp-6wy9chTD7GQPMTbAiWHF5IaSIE">>},
        <<"tuple-live">> => [<<"a">>, <<"b">>, 3]
    },
    %% All keys but the two private ones.
    ?assertEqual(maps:size(Odd) - 2, length(Same) + maps:size(Different)),
    same_as_json(Client, [{Odd, maps:merge(maps:with(Same, Odd), Different)}]).

every_odd_value_of_a_node_has_its_topics(Client) ->
    Topics = topics(Client, fixture(odd_values)),
    Expected = [
        <<"atom_key:atom as key">>, <<"upper-case-key:v">>, <<"a/b:slash in key">>, <<"atom:some-atom">>, <<"atom-false:false">>,
        <<"atom-true:true">>, <<"beyond-double:9007199254740993">>,
        <<"big-integer:1606938044258990275541962092341162602522202993782792835301376">>, <<"binary:plain">>,
        <<"float:3.14">>, <<"float-tiny:1e-12">>, <<"float-whole:2.0">>,
        <<"fun-live:#fun">>, <<"integer:42">>, <<"key with spaces:v">>, <<"negative:-7">>, <<"pid-live:#pid">>,
        <<"plus+link:Rm4FVaxOPUsKLSnENMl_zt_X0MOhZ9NReK41Fu2nnT8">>, <<"zero:0">>, <<"schlüssel:v"/utf8>>,
        <<"ключ:v"/utf8>>, <<"non-utf8:AP_-gAE">>, <<"raw-id:LXEWQrcmsEQBYnyp-6wy9chTD7GQPMTbAiWHF5IaSIE">>
    ],
    ?assertEqual([], Expected -- Topics),
    %% How the largest double is written, and how a key that is no text is.
    ?assertMatch([<<"$base64url:", _/binary>>, <<"float-huge:1.7976931348623157e", _/binary>>], lists:sort(Topics -- Expected)).

tags_become_topics_in_every_form(Client) ->
    lists:foreach(
        fun({Message, Expected}) -> ?assertEqual(Expected, topics(Client, Message), Message) end,
        [
            {#{<<"topic">> => <<"prices">>, <<"action">> => <<"Transfer">>}, [<<"prices">>, <<"action:Transfer">>]},
            {#{topic => prices, action => 'Transfer'}, [<<"prices">>, <<"action:Transfer">>]},
            {[{topic, <<"prices">>}, {<<"Action">>, <<"Transfer">>}, urgent],
                [<<"prices">>, <<"action:Transfer">>, <<"urgent:true">>]},
            {#{<<"topics">> => [<<"a">>, b, 5, <<"c,d">>]}, [<<"a">>, <<"b">>, <<"5">>, <<"c">>, <<"d">>]},
            {#{<<"Topic">> => <<" a , b,,a">>}, [<<"a">>, <<"b">>]},
            {#{<<"tags">> => #{<<"Action">> => <<"Mint">>, <<"Topic">> => <<"t">>}}, [<<"t">>, <<"action:Mint">>]},
            {#{<<"Tags">> => [
                #{<<"name">> => <<"Action">>, <<"value">> => <<"Mint">>},
                #{<<"Name">> => <<"Topic">>, <<"Value">> => <<"t">>}
            ]}, [<<"t">>, <<"action:Mint">>]},
            {#{<<"Tags">> => [{<<"Action">>, <<"Mint">>}, {<<"Topic">>, <<"t">>}]}, [<<"t">>, <<"action:Mint">>]},
            {#{<<"n">> => 7, <<"big">> => 1 bsl 64}, [<<"big:18446744073709551616">>, <<"n:7">>]},
            {#{<<"data">> => <<"x">>, <<"body">> => <<"x">>, <<"nonce">> => 1, <<"block-timestamp">> => 1, <<"priv">> => 1}, []},
            {#{<<"process">> => <<"p">>, <<"from">> => <<"f">>, <<"slot">> => 1, <<"owner">> => <<"o">>, <<"topic">> => <<"process:p,ok">>},
                [<<"ok">>]},
            {<<"topic">>, []}, {#{}, []}, {[<<"topic">>], []}, {{topic, <<"t">>}, []}
        ]
    ).

%% Messages that a real node handed over.
recorded_messages_arrive(Client) ->
    Root = filename:dirname(filename:dirname(fixtures())),
    Recorded = filename:join([Root, "examples", "feed", "recorded"]),
    Files = [
        File
     ||
        Folder <- [fixtures(), Recorded],
        File <- filelib:wildcard(filename:join(Folder, "*.term")),
        filename:basename(File) =/= "odd_values.term",
        %% Lists of many calls, which are no messages.
        filename:basename(File) =/= "step_hook_noise.term", filename:basename(File) =/= "step_hook_shapes.term"
    ],
    ?assert(length(Files) > 10),
    lists:foreach(
        fun(File) ->
            {ok, [Term]} = file:consult(File),
            ?assertEqual({ok, <<"OK">>}, dev_websocket:cast(Term, #{})),
            Own = [<<"commitments">>, <<"priv">>],
            Keys = maps:keys(ws_client:recv_json(Client)),
            ?assertEqual({File, lists:sort(keys(Term) -- Own)}, {File, lists:sort(Keys)})
        end,
        Files
    ).

%%% Helpers.

%% @doc A client that gets each message as it is.
connect(Uri) ->
    ws_client:connect_raw(Uri, "topic=*").

same_as_json(Client, Cases) ->
    lists:foreach(
        fun({Term, Expected}) ->
            ?assertEqual({ok, <<"OK">>}, dev_websocket:cast(Term, #{})),
            ?assertEqual(Expected, ws_client:recv_json(Client))
        end,
        Cases
    ).

%% @doc The topics of a message, as its frame tells them.
topics(Raw, Message) ->
    {ok, #{uri := Uri}} = dev_websocket:info(),
    {ok, Client} = ws_client:connect(Uri, "topic=*"),
    #{<<"type">> := <<"connection_established">>} = ws_client:recv_json(Client),
    dev_websocket:cast(Message, #{}),
    _ = ws_client:recv_json(Raw),
    [#{<<"topics">> := Topics}] = ws_client:messages(Client, 1),
    ok = gen_tcp:close(Client),
    Topics.

keys(Map) ->
    [if is_atom(Key) -> atom_to_binary(Key, utf8); true -> Key end || Key <- maps:keys(Map)].

omitted(Kind) -> #{<<"$omitted">> => list_to_binary(Kind)}.

binary_or_integer(Key) when is_binary(Key) -> binary_to_integer(Key);
binary_or_integer(Key) -> Key.

fixture(Name) ->
    {ok, [Term]} = file:consult(filename:join(fixtures(), atom_to_list(Name) ++ ".term")),
    Term.

fixtures() ->
    filename:join(filename:dirname(proplists:get_value(source, ?MODULE:module_info(compile))), "fixtures").
