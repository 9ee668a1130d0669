%%% @doc What strangers try: calls that are forged, and terms that are mutated.
-module(trust_tests).
-include_lib("eunit/include/eunit.hrl").

-compile([export_all, nowarn_export_all]).

trust_test_() ->
    node_calls:cases(?MODULE, [
        forged_executions_publish_nothing,
        forged_steps_publish_nothing,
        forged_responses_publish_nothing,
        anything_mutated_is_given_back_and_counted
    ]).

forged_executions_publish_nothing(Client) ->
    {Id, {Base, Request, Opts}} = recorded:fresh(recorded:call("compute_stack_slot1_loaded")),
    Http = #{<<"method">> => <<"GET">>, <<"host">> => <<"node">>, <<"accept">> => <<"*/*">>, <<"user-agent">> => <<"curl">>, <<"accept-bundle">> => false},
    Query = #{<<"process">> => Id, <<"slot">> => <<"7">>, <<"results">> => #{<<"output">> => <<"forged">>}, <<"path">> => <<"compute">>, <<"at-slot">> => 6},
    Direct = maps:merge(Http, Query),
    #{<<"process">> := Process, <<"priv">> := Private} = Base,
    Stored = maps:remove(<<"priv">>, Base),
    rejects(Client, compute, Opts, [
        %% Directly, and through a stack that the URL makes.
        {Direct, Direct},
        {Direct#{<<"device">> => <<"websocket@1.0">>, <<"device-stack">> => [<<"websocket@1.0">>], <<"pass">> => 1}, Direct},
        %% A stored message as the base, with any request that can be sent.
        {Stored, Direct}, {Stored, maps:merge(Request, Http)}, {Stored, Request}, {Stored, Request#{<<"method">> => <<"GET">>}},
        %% An earlier step of the path leaves a hashpath, and no state of devices.
        {Stored#{<<"priv">> => maps:with([<<"hashpath">>], Private)}, Request},
        %% A scheduler of the caller's, a program in Lua, leaves nothing of the node's scheduler.
        {Stored#{<<"priv">> => maps:with([<<"hashpath">>, <<"state">>], Private)}, Request},
        {Base#{<<"scheduler-device">> => <<"lua@5.3a">>}, Request},
        {Base, maps:merge(Request, Http)}, {Base, Request#{<<"method">> => <<"GET">>}}, {Base, Request#{<<"host">> => <<"node">>}},
        %% No assignment.
        {Base, maps:remove(<<"commitments">>, Request)}, {Base, Request#{<<"commitments">> => #{}}},
        {Base, Request#{<<"path">> => <<"slot">>}},
        %% A process that runs something else under the message of this one.
        {Base#{<<"device-stack">> => [<<"lua@5.3a">>, <<"evil@1.0">>, <<"probe@1.0">>]}, Request},
        {Base#{<<"module">> => recorded:process()}, Request},
        {Base#{<<"process">> => maps:remove(<<"device-stack">>, Process)}, Request}
    ]).

forged_steps_publish_nothing(Client) ->
    [
        begin
            {_, {Handler, Step, Opts}} = recorded:fresh(recorded:call(Name)),
            #{<<"base">> := Base, <<"request">> := Request} = Step,
            Http = #{<<"host">> => <<"node">>, <<"accept">> => <<"*/*">>, <<"user-agent">> => <<"curl">>},
            Lazy = maps:map(fun(Key, _) -> {link, <<"ID/", Key/binary>>, #{<<"lazy">> => true}} end, Handler),
            rejects(Client, step, Opts, [
                {maps:merge(Handler, Http#{<<"method">> => <<"GET">>}), maps:merge(Step, Http)},
                {Handler, maps:merge(Step, Http)},
                {Lazy, Step}, {Handler#{<<"priv">> => #{<<"hashpath">> => <<"a/b">>}}, Step},
                {Handler#{<<"commitments">> => #{}}, Step}, {#{}, Step}, {Step, Step}
            ]),
            %% On a node that has the hook, the hook does not see itself in the options.
            rejects(Client, step, Opts#{on => #{<<"step">> => Handler}}, [{Handler, Step}]),
            rejects(Client, step, #{}, [{Handler#{<<"method">> => <<"GET">>}, Step}]),
            case Name of
                "step_hook_inner" ->
                    gives_back(Client, step, Opts, [
                        {Handler, Step#{<<"base">> := maps:remove(<<"priv">>, Base)}},
                        {Handler, Step#{<<"request">> := maps:merge(Request, Http)}},
                        {Handler, Step#{<<"base">> := Base#{<<"device">> => <<"probe@1.0">>}}}
                    ]);
                "step_hook_compute" ->
                    #{<<"body">> := State} = Step,
                    #{<<"process">> := Process} = State,
                    gives_back(Client, step, Opts, [
                        %% Another device in the URL is not the process.
                        {Handler, Step#{<<"base">> := Base#{<<"device">> => <<"lua@5.3a">>}}},
                        {Handler, Step#{<<"base">> := Base#{<<"process">> => Process}}}
                    ]),
                    rejects(Client, step, Opts, [
                        {Handler, Step#{<<"body">> := State#{<<"process">> := maps:remove(<<"commitments">>, Process)}}},
                        {Handler, Step#{<<"body">> := State#{<<"device">> := <<"message@1.0">>}}}
                    ])
            end
        end
     ||
        Name <- ["step_hook_inner", "step_hook_compute"]
    ].

forged_responses_publish_nothing(Client) ->
    {Id, {Handler, Response, Opts}} = recorded:fresh(recorded:call("response_hook_compute")),
    #{<<"request">> := Request, <<"body">> := State} = Response,
    Http = #{<<"host">> => <<"node">>, <<"accept">> => <<"*/*">>},
    Asked = fun(Path) -> Response#{<<"request">> := Request#{<<"path">> := Path}} end,
    Other = recorded:process(),
    rejects(Client, response, Opts, [
        {maps:merge(Handler, Http), maps:merge(Response, Http)},
        {Handler, maps:merge(Response, Http)},
        {Handler#{<<"extra">> => 1}, Response},
        {maps:map(fun(Key, _) -> {link, Key, #{}} end, Handler), Response},
        %% A message that looks like a state, by other ways than the process's own.
        {Handler, Asked(<<"/", Other/binary, "/compute?slot=1">>)},
        {Handler, Asked(<<"/", Id/binary>>)},
        {Handler, Asked(<<"/", Id/binary, "~lua@5.3a/compute?slot=1">>)},
        {Handler, Asked(<<"/", Id/binary, "/x/compute?slot=1">>)},
        {Handler, Asked(<<"/", Id/binary, "/compute?slot=1/../x">>)},
        {Handler, Asked(<<"/~json@1.0/deserialize/", Id/binary, "/compute">>)},
        {Handler, Response#{<<"body">> := State#{<<"process">> := #{}}}},
        {Handler, Response#{<<"body">> := State#{<<"device">> := <<"message@1.0">>}}}
    ]),
    rejects(Client, response, Opts#{on => #{}}, [{Handler, Response}]).

anything_mutated_is_given_back_and_counted(Client) ->
    Seed = {1, 2, erlang:unique_integer([positive])},
    _ = rand:seed(exsss, Seed),
    Calls = [
        {Key, recorded:call(Name)}
     ||
        Name <- recorded:names(), {Prefix, Key} <- keys(), lists:prefix(Prefix, Name), is_call(Name)
    ],
    ?assert(length(Calls) > 15),
    [
        begin
            {_, {Base, Request, Opts}} = recorded:fresh(Call),
            [First, Second] = [recorded:mutated(Base), recorded:mutated(Request)],
            Third = case Round rem 3 of 0 -> recorded:mutated(Opts); _ -> Opts end,
            Each = [{First, Request}, {Base, Second}, {First, Second}],
            [
                case {Key, catch dev_websocket:Key(B, R, Third)} of
                    {cast, {ok, <<"OK">>}} -> ok;
                    {cast, {error, Answer}} when is_map(Answer); is_binary(Answer) -> ok;
                    {compute, {ok, B}} -> ok;
                    {Hook, {ok, R}} when Hook =:= step; Hook =:= response -> ok;
                    Other -> error({Seed, Key, Other})
                end
             ||
                {B, R} <- Each
            ]
        end
     ||
        Round <- lists:seq(1, 40), {Key, Call} <- Calls
    ],
    ?assertEqual(0, node_calls:count(<<"faults">>)),
    ?assert(node_calls:count(<<"dropped_untrusted">>) > 0),
    node_calls:drain(Client).

%%% What the tests are made of.

%% @doc Each call changes nothing and publishes nothing.
gives_back(Client, Key, Opts, Calls) ->
    [
        begin
            Given = case Key of compute -> Base; _ -> Request end,
            ?assertEqual({ok, Given}, dev_websocket:Key(Base, Request, Opts))
        end
     ||
        {Base, Request} <- Calls
    ],
    node_calls:nothing_comes(Client).

%% @doc Each call changes nothing, publishes nothing, and is counted as not trusted.
rejects(Client, Key, Opts, Calls) ->
    [
        begin
            Before = node_calls:count(<<"dropped_untrusted">>),
            gives_back(Client, Key, Opts, [Call]),
            ?assertEqual({Key, Call, Before + 1}, {Key, Call, node_calls:count(<<"dropped_untrusted">>)})
        end
     ||
        Call <- Calls
    ].

keys() ->
    [{"http_cast", cast}, {"compute_stack", compute}, {"step_hook", step}, {"response_hook", response}].

is_call("step_hook_shapes") -> false;
is_call("step_hook_noise") -> false;
is_call(_) -> true.
