%%% @doc The keys of the device as AO-Core calls them: their answers, and casts that come as
%%% requests.
-module(device_keys_tests).
-include_lib("eunit/include/eunit.hrl").

-compile([export_all, nowarn_export_all]).

device_keys_test_() ->
    node_calls:cases(?MODULE, [
        the_exports_are_constant_and_every_key_can_be_called,
        info_is_a_json_document_and_keys,
        stats_are_a_json_document_and_keys,
        a_json_body_is_the_message,
        a_request_is_the_message_without_its_transport,
        a_signed_request_is_cast_without_its_signature,
        malformed_requests_get_an_error_that_names_the_cause,
        a_cast_over_http_makes_no_reserved_topics,
        websocket_cast_decides_which_requests_are_published,
        the_step_hook_of_earlier_versions_changes_nothing
    ]).

the_exports_are_constant_and_every_key_can_be_called(_Client) ->
    #{exports := Keys} = Info = dev_websocket:info(#{}),
    ?assertEqual([exports], maps:keys(Info)),
    ?assertEqual(Info, dev_websocket:info(#{<<"device">> => <<"websocket@1.0">>})),
    %% AO-Core takes the function of the highest arity up to three, with `-' as `_',
    %% and cuts the arguments to it.
    Exported = dev_websocket:module_info(exports),
    Request = #{<<"path">> => <<"x">>, <<"a">> => 1},
    [
        begin
            Function = binary_to_existing_atom(binary:replace(Key, <<"-">>, <<"_">>, [global])),
            Arity = lists:max([Arity || {Name, Arity} <- Exported, Name =:= Function, Arity =< 3]),
            ?assertEqual({Key, 3}, {Key, Arity}),
            Arguments = lists:sublist([#{}, Request, #{}], Arity),
            {Status, _} = apply(dev_websocket, Function, Arguments),
            ?assert(lists:member(Status, [ok, error]))
        end
     ||
        Key <- Keys
    ],
    ?assertEqual(Keys, [Key || Key <- Keys, Key =:= string:lowercase(Key)]),
    %% The resolver calls the highest arity but three to describe the device.
    ?assertEqual([0, 1, 3], lists:sort([Arity || {info, Arity} <- Exported])).

info_is_a_json_document_and_keys(_Client) ->
    {ok, #{uri := Uri, topics := Topics}} = dev_websocket:info(),
    {ok, Answer} = dev_websocket:info(#{}, #{}, #{}),
    ?assertMatch(#{<<"status">> := 200, <<"content-type">> := <<"application/json">>}, Answer),
    #{<<"body">> := Body} = Answer,
    Document = json_reader:decode(Body),
    ?assertMatch(#{<<"uri">> := Uri, <<"protocol">> := 1, <<"limits">> := #{<<"max_message_bytes">> := _}}, Document),
    ?assertEqual(lists:sort(Topics), lists:sort(maps:get(<<"topics">>, Document))),
    ?assertEqual(maps:without([<<"status">>, <<"content-type">>, <<"body">>], Answer), Document).

stats_are_a_json_document_and_keys(_Client) ->
    {ok, #{<<"body">> := Body, <<"publications">> := _} = Answer} = dev_websocket:stats(#{}, #{}, #{}),
    ?assertEqual(maps:without([<<"status">>, <<"content-type">>, <<"body">>], Answer), json_reader:decode(Body)).

a_json_body_is_the_message(Client) ->
    {Base, #{<<"body">> := Body} = Request, Opts} = recorded:call("http_cast_json_post"),
    ?assertEqual({ok, <<"OK">>}, dev_websocket:cast(Base, Request, Opts)),
    [Frame] = ws_client:messages(Client, 1),
    ?assertEqual(json_reader:decode(Body), maps:get(<<"data">>, Frame)),
    ?assertMatch(#{<<"topic">> := <<"prices">>, <<"source">> := <<"http">>}, Frame),
    ?assertNot(is_map_key(<<"from">>, Frame)),
    ?assertNot(is_map_key(<<"process">>, Frame)),
    %% All JSON types, also a list, and a text that only looks like JSON.
    [
        begin
            ?assertEqual({ok, <<"OK">>}, dev_websocket:cast(Base, Request#{<<"content-type">> => Type, <<"body">> => <<"[1]">>}, Opts)),
            ?assertMatch([#{<<"data">> := [1], <<"topics">> := [<<"prices">>]}], ws_client:messages(Client, 1))
        end
     ||
        Type <- [<<"application/json; charset=utf-8">>, <<"Application/JSON">>, <<"application/ld+json">>]
    ],
    ?assertEqual({ok, <<"OK">>}, dev_websocket:cast(Base, Request#{<<"content-type">> => <<"text/plain">>, <<"body">> => <<"{}">>}, Opts)),
    ?assertMatch([#{<<"data">> := #{<<"body">> := <<"{}">>, <<"n">> := <<"5">>}}], ws_client:messages(Client, 1)).

a_request_is_the_message_without_its_transport(Client) ->
    {Base, Request, Opts} = recorded:call("http_cast_query_only"),
    ?assertEqual({ok, <<"OK">>}, dev_websocket:cast(Base, Request, Opts)),
    [Frame] = ws_client:messages(Client, 1),
    ?assertEqual(#{<<"topic">> => <<"a,b">>, <<"action">> => <<"Ping">>}, maps:get(<<"data">>, Frame)),
    ?assertEqual([<<"a">>, <<"b">>, <<"action:Ping">>], maps:get(<<"topics">>, Frame)).

a_signed_request_is_cast_without_its_signature(Client) ->
    %% No signature can be verified here, so no signer is named.
    [
        begin
            {Base, Request, Opts} = recorded:call(Name),
            ?assertEqual({ok, <<"OK">>}, dev_websocket:cast(Base, Request, Opts)),
            [#{<<"data">> := Data} = Frame] = ws_client:messages(Client, 1),
            ?assertNot(is_map_key(<<"from">>, Frame)),
            ?assertMatch(#{<<"action">> := <<"Transfer">>, <<"quantity">> := 100}, Data),
            [?assertNot(is_map_key(Key, Data)) || Key <- [<<"commitments">>, <<"method">>, <<"path">>, <<"accept-bundle">>]],
            ?assertMatch([<<"prices">> | _], maps:get(<<"topics">>, Frame))
        end
     ||
        Name <- ["http_cast_signed", "http_cast_signed_loaded", "http_cast_signed_flat", "http_cast_signed_flat_loaded"]
    ].

malformed_requests_get_an_error_that_names_the_cause(Client) ->
    {Base, Request, Opts} = recorded:call("http_cast_json_post"),
    Refused = fun(Odd) ->
        {error, #{<<"status">> := Status, <<"body">> := Body}} = dev_websocket:cast(Base, Odd, Opts),
        #{<<"error">> := Code, <<"message">> := Text} = json_reader:decode(Body),
        ?assert(byte_size(Text) > 10),
        {Status, Code}
    end,
    ?assertEqual({400, <<"bad_json">>}, Refused(Request#{<<"body">> => <<"{\"a\":">>})),
    ?assertEqual({400, <<"bad_json">>}, Refused(Request#{<<"body">> => <<255>>})),
    ?assertEqual({400, <<"bad_body">>}, Refused(Request#{<<"body">> => 5})),
    ?assertEqual({400, <<"bad_body">>}, Refused(Request#{<<"body">> => {link, <<"nowhere">>, #{}}})),
    ?assertEqual({413, <<"too_large">>}, Refused(Request#{<<"body">> => <<"\"", (binary:copy(<<"x">>, 1048576))/binary, "\"">>})),
    ?assertEqual({400, <<"empty">>}, Refused(#{<<"method">> => <<"GET">>, <<"path">> => <<"cast">>, <<"host">> => <<"h">>, <<"body">> => <<>>})),
    ?assertEqual({400, <<"bad_request">>}, Refused(not_a_map)),
    node_calls:nothing_comes(Client).

a_cast_over_http_makes_no_reserved_topics(Client) ->
    Victim = recorded:process(),
    Before = dev_websocket:stats(),
    {Base, Request, Opts} = recorded:call("http_cast_query_only"),
    Forged = Request#{
        <<"topic">> => <<"process:", Victim/binary, ",/", Victim/binary, "~process@1.0,from:x,ok">>,
        <<"process">> => Victim, <<"from">> => Victim, <<"slot">> => <<"7">>, <<"source">> => <<"node">>
    },
    ?assertEqual({ok, <<"OK">>}, dev_websocket:cast(Base, Forged, Opts)),
    [Frame] = ws_client:messages(Client, 1),
    ?assertEqual([<<"action:Ping">>, <<"ok">>, <<"source:node">>], lists:sort(maps:get(<<"topics">>, Frame))),
    ?assertMatch(#{<<"source">> := <<"http">>}, Frame),
    [?assertNot(is_map_key(Key, Frame)) || Key <- [<<"process">>, <<"from">>, <<"slot">>]],
    ?assert(node_calls:count(<<"topics_reserved">>) - maps:get(<<"topics_reserved">>, Before) >= 3).

websocket_cast_decides_which_requests_are_published(Client) ->
    {Base, Request, Opts} = recorded:call("http_cast_signed_flat_loaded"),
    Status = fun(Policy) ->
        case dev_websocket:cast(Base, Request, Opts#{websocket_cast => Policy}) of
            {ok, <<"OK">>} -> 200;
            {error, #{<<"status">> := Code}} -> Code
        end
    end,
    ?assertEqual([200, 200, 401, 403, 403, 403], [Status(Policy) || Policy <- [open, <<"open">>, signed, operator, off, <<"typo">>]]),
    _ = ws_client:messages(Client, 2),
    %% With a node that verifies signatures.
    #{address := Operator} = Opts,
    [Signer] = dev_websocket_node:committers(Request),
    with_verifying_node(fun() ->
        ?assertEqual([200, 403], [Status(Policy) || Policy <- [signed, operator]]),
        [#{<<"from">> := From, <<"topics">> := Topics, <<"data">> := Data}] = ws_client:messages(Client, 1),
        ?assertEqual([Signer], From),
        ?assert(lists:member(<<"from:", Signer/binary>>, Topics)),
        ?assert(lists:member(<<"prices">>, Topics)),
        %% The topic came by the query, which no signature covers.
        ?assertNot(is_map_key(<<"topic">>, Data)),
        ?assertMatch({ok, _}, dev_websocket:cast(Base, Request, Opts#{address => Signer, websocket_cast => operator})),
        _ = ws_client:messages(Client, 1),
        %% One signed key is different.
        Altered = Request#{<<"action">> => <<"Mint">>},
        ?assertMatch({error, #{<<"status">> := 401}}, dev_websocket:cast(Base, Altered, Opts#{websocket_cast => signed})),
        ?assertMatch({ok, _}, dev_websocket:cast(Base, Altered, Opts)),
        [Unsigned] = ws_client:messages(Client, 1),
        ?assertNot(is_map_key(<<"from">>, Unsigned)),
        ?assertNotEqual(Operator, Signer)
    end),
    node_calls:nothing_comes(Client).

the_step_hook_of_earlier_versions_changes_nothing(Client) ->
    Steps = [recorded:call(Name) || "step_hook" ++ _ = Name <- recorded:names(), lists:prefix("step_hook_compute", Name)],
    ?assertEqual(2, length(Steps)),
    [?assertEqual({ok, Step}, dev_websocket:step(Handler, Step, Opts)) || {Handler, Step, Opts} <- Steps],
    node_calls:nothing_comes(Client).

%%% Helpers.

%% @doc A node whose `hb_message' accepts a signature as long as the action of the message is
%% the recorded one.
with_verifying_node(Run) ->
    Code =
        "-module(hb_message).\n"
        "-export([verify/2, signers/1, with_only_committed/1]).\n"
        "verify(#{<<\"action\">> := Action}, all) -> Action =:= <<\"Transfer\">>.\n"
        "signers(#{<<\"commitments\">> := All}) -> [Signer || #{<<\"committer\">> := Signer} <- maps:values(All)].\n"
        "with_only_committed(Msg) -> {ok, maps:with([<<\"action\">>, <<\"data\">>, <<\"quantity\">>, <<\"target\">>, <<\"commitments\">>], Msg)}.\n",
    with_module(hb_message, Code, Run).

%% @doc Run with a module of this source.
with_module(Name, Code, Run) ->
    {ok, Tokens, _} = erl_scan:string(Code),
    {ok, Name, Beam} = compile:forms(forms(Tokens, [])),
    {module, Name} = code:load_binary(Name, atom_to_list(Name), Beam),
    try Run()
    after
        code:delete(Name),
        code:purge(Name)
    end.

forms([], []) -> [];
forms([{dot, _} = Dot | Rest], Form) ->
    {ok, Parsed} = erl_parse:parse_form(lists:reverse([Dot | Form])),
    [Parsed | forms(Rest, [])];
forms([Token | Rest], Form) -> forms(Rest, [Token | Form]).
