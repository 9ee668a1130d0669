%%% @doc Tokens from Erlang and from the device's key: what they allow, how they end, and the
%%% errors of bad arguments.
-module(token_tests).
-include_lib("eunit/include/eunit.hrl").

-define(NODE, <<"NODE-ADDRESS-NODE-ADDRESS-NODE-ADDRESS-NODE">>).
-define(WALLET, <<"WALLET-ADDRESS-WALLET-ADDRESS-WALLET-ADDRES">>).

-compile([export_all, nowarn_export_all]).

token_test_() ->
    {foreach, fun() -> fresh_server:start(#{access => token}) end, fun(_) -> dev_websocket:stop() end, [
        {timeout, 300, {atom_to_list(Name), fun() -> ?MODULE:Name() end}}
     ||
        Name <- [
            a_token_opens_its_topics_and_no_others,
            a_revoked_token_closes_its_connection,
            bad_arguments_are_named,
            a_signed_request_gets_the_grants_of_its_wallet,
            a_request_for_something_else_gets_no_token,
            bad_grants_of_the_node_are_named,
            calls_of_the_node_need_no_token
        ]
    ]}.

a_token_opens_its_topics_and_no_others() ->
    {ok, Token} = dev_websocket:token([<<"prices">>, <<"room:*">>], #{}),
    Client = client("topic=prices,room:1", Token),
    {ok, <<"OK">>} = dev_websocket:cast(#{<<"topic">> => <<"room:1">>, <<"data">> => <<"x">>}, #{}),
    ?assertMatch([#{<<"topics">> := [<<"room:1">>]}], ws_client:messages(Client, 1)),
    ok = ws_client:send_json(Client, #{<<"type">> => <<"subscribe">>, <<"topics">> => [<<"other">>]}),
    ?assertMatch(#{<<"code">> := <<"forbidden">>}, ws_client:recv_json(Client)),
    ?assertMatch({error, {http, 403, _, _}}, connect("topic=other", Token)),
    ?assertMatch({error, {http, 401, _, _}}, ws_client:connect(uri(), "topic=prices")),
    #{<<"tokens_accepted">> := Accepted, <<"requests_forbidden">> := Forbidden} = dev_websocket:stats(),
    ?assert(Accepted >= 2 andalso Forbidden >= 2).

a_revoked_token_closes_its_connection() ->
    {ok, Token} = dev_websocket:token(#{topics => [<<"a">>], send => true}, #{sub => <<"alice">>, seconds => 600}),
    Client = client("topic=a", Token),
    ok = dev_websocket:revoke(#{<<"sub">> => <<"alice">>}),
    ?assertMatch({close, 3003, <<"token revoked">>}, ws_client:recv(Client)),
    ?assertMatch({error, {http, 401, _, _}}, connect("topic=a", Token)),
    ok = dev_websocket:revoke(<<"some id">>),
    ok = dev_websocket:revoke(#{sub => <<"bob">>, issued_before => 1}).

bad_arguments_are_named() ->
    [
        ?assertMatch({{error, {bad_argument, _}}, _}, {dev_websocket:token(Grants, Opts), {Grants, Opts}})
     ||
        {Grants, Opts} <- [
            {x, #{}}, {[], x}, {#{topic => []}, #{}}, {[], #{second => 1}}, {[x], #{}}, {[<<"a,b">>], #{}},
            {[<<"a">> | <<"b">>], #{}}, {[<<"a">>], #{sub => <<>>}}, {[<<"a">>], #{sub => x}},
            {[<<"a">>], #{seconds => 0}}, {[<<"a">>], #{seconds => -1}}, {[<<"a">>], #{seconds => 1 bsl 70}},
            {#{send => perhaps}, #{}}, {lists:duplicate(1001, <<"a">>), #{}}, {[<<255>>], #{}}
        ]
    ],
    ?assertEqual({error, {bad_argument, <<"seconds must be a number from 1 to 86400 (token_max_life)">>}},
        dev_websocket:token([<<"a">>], #{seconds => 86401})),
    [
        ?assertMatch({{error, {bad_argument, _}}, _}, {dev_websocket:revoke(Revoked), Revoked})
     ||
        Revoked <- [
            x, <<>>, #{}, #{jti => x}, #{sub => <<>>}, #{sub => <<"a">>, jti => <<"b">>}, #{jti => <<"a">>, issued_before => 1},
            #{sub => <<"a">>, issued_before => -1}, #{sub => <<"a">>, issued_before => soon}, #{subject => <<"a">>},
            binary:copy(<<"x">>, 5000)
        ]
    ],
    ok = dev_websocket:stop(),
    ?assertMatch({error, _}, dev_websocket:token([<<"a">>], #{})),
    ?assertMatch({error, _}, dev_websocket:revoke(<<"a">>)).

a_signed_request_gets_the_grants_of_its_wallet() ->
    with_verifying_node(fun() ->
        {ok, #{<<"status">> := 200, <<"cache-control">> := <<"no-store">>, <<"body">> := Token}} = ask(request(now_text()), #{}),
        Client = client(<<"topic=target:", ?WALLET/binary, ",from:", ?WALLET/binary>>, Token),
        ok = ws_client:close(Client),
        ?assertMatch({error, {http, 403, _, _}}, connect("topic=target:somebody-else", Token)),
        %% The operator gives other grants.
        Granted = #{websocket_grants => [<<"room:{address}:*">>, <<"news">>]},
        {ok, #{<<"body">> := Other}} = ask(request(now_text()), Granted),
        ok = ws_client:close(client(<<"topic=news,room:", ?WALLET/binary, ":1">>, Other)),
        ?assertMatch({error, {http, 403, _, _}}, connect(<<"topic=target:", ?WALLET/binary>>, Other))
    end).

a_request_for_something_else_gets_no_token() ->
    Code = fun(Request) ->
        {error, #{<<"status">> := 401, <<"body">> := Body}} = ask(Request, #{}),
        #{<<"error">> := Name} = json_reader:decode(Body),
        Name
    end,
    %% No node can verify.
    ?assertEqual(<<"not_signed">>, Code(request(now_text()))),
    with_verifying_node(fun() ->
        ?assertEqual(<<"not_signed">>, Code(maps:remove(<<"commitments">>, request(now_text())))),
        [
            ?assertEqual({<<"not_meant">>, Purpose}, {Code(request(Purpose)), Purpose})
         ||
            Purpose <- [
                <<>>, ?NODE, <<?NODE/binary, " ">>, <<?NODE/binary, " x">>, <<?NODE/binary, (seconds())/binary>>,
                <<?NODE/binary, " ", (integer_to_binary(erlang:system_time(second) - 400))/binary>>,
                <<?NODE/binary, " ", (integer_to_binary(erlang:system_time(second) + 400))/binary>>,
                <<"OTHER ", (seconds())/binary>>, seconds(), 7, #{}, [<<"x">>]
            ]
        ],
        %% The signature does not cover the key.
        Uncovered = (request(now_text()))#{<<"uncovered">> => true},
        ?assertEqual(<<"not_meant">>, Code(Uncovered)),
        [?assertMatch({error, #{<<"status">> := 400}}, dev_websocket:token(#{}, Bad, #{})) || Bad <- [x, [], <<"x">>]]
    end).

bad_grants_of_the_node_are_named() ->
    with_verifying_node(fun() ->
        [
            ?assertMatch({{error, #{<<"status">> := 500, <<"body">> := <<"{\"error\":\"bad_grants\"", _/binary>>}}, _},
                {ask(request(now_text()), #{websocket_grants => Bad}), Bad})
         ||
            Bad <- [x, <<"target:{address}">>, [x], [<<"a,b">>], #{}]
        ],
        ok = dev_websocket:stop(),
        ?assertMatch({error, #{<<"status">> := 503}}, ask(request(now_text()), #{}))
    end).

calls_of_the_node_need_no_token() ->
    %% `info' and `stats' of the node itself need no token.
    {ok, Token} = dev_websocket:token([<<"secret">>], #{}),
    Client = client("topic=secret", Token),
    {ok, #{topics := [<<"secret">>]}} = dev_websocket:info(),
    %% Strangers may call the key, so it lists no topics.
    {ok, #{<<"topics">> := [], <<"body">> := Body}} = dev_websocket:info(#{}, #{}, #{}),
    #{<<"topics">> := []} = json_reader:decode(Body),
    ok = ws_client:close(Client),
    #{<<"tokens_missing">> := _} = dev_websocket:stats().

%%% Helpers.

uri() ->
    {ok, #{uri := Uri}} = dev_websocket:info(),
    Uri.

connect(Query, Token) ->
    ws_client:connect(uri(), Query, [{"Authorization", ["Bearer ", Token]}]).

client(Query, Token) ->
    {ok, Client} = connect(Query, Token),
    #{<<"type">> := <<"connection_established">>, <<"token_ends">> := _} = ws_client:recv_json(Client),
    Client.

ask(Request, Opts) ->
    dev_websocket:token(#{}, Request, Opts#{address => ?NODE}).

request(Purpose) ->
    #{
        <<"path">> => <<"token">>,
        <<"websocket-token">> => Purpose,
        <<"commitments">> => #{<<"id">> => #{<<"committer">> => ?WALLET, <<"commitment-device">> => <<"httpsig@1.0">>}}
    }.

seconds() -> integer_to_binary(erlang:system_time(second)).

now_text() -> <<?NODE/binary, " ", (seconds())/binary>>.

%% @doc A node whose `hb_message' accepts every signature. It covers `websocket-token'
%% unless the request has the key `uncovered'.
with_verifying_node(Run) ->
    device_keys_tests:with_module(hb_message,
        "-module(hb_message).\n"
        "-export([verify/2, signers/1, with_only_committed/1]).\n"
        "verify(_, all) -> true.\n"
        "signers(#{<<\"commitments\">> := All}) -> [Signer || #{<<\"committer\">> := Signer} <- maps:values(All)].\n"
        "with_only_committed(#{<<\"uncovered\">> := _}) -> {ok, #{}};\n"
        "with_only_committed(Msg) -> {ok, maps:with([<<\"websocket-token\">>], Msg)}.\n",
        Run).
