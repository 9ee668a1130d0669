%%% @doc The device as AO-Core calls it: its keys, the results of processes, hooks,
%%% and what strangers try. The terms are those that a real node handed over.
-module(hyperbeam_tests).
-include_lib("eunit/include/eunit.hrl").

-compile([export_all, nowarn_export_all]).

hyperbeam_test_() ->
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
                {timeout, 120, {atom_to_list(Name), fun() -> with_client(Uri, Name) end}}
             ||
                Name <- [
                    the_exports_are_constant_and_every_key_can_be_called,
                    info_is_a_json_document_and_keys,
                    stats_are_a_json_document_and_keys,
                    a_json_body_is_the_message,
                    a_request_is_the_message_without_its_transport,
                    a_signed_request_is_cast_without_its_signature,
                    odd_requests_are_told_what_is_wrong,
                    a_cast_over_http_makes_no_reserved_topics,
                    who_may_cast_is_the_operators_to_say,
                    a_slot_is_an_event_and_so_is_each_message,
                    a_slot_without_messages_is_an_event,
                    lazy_and_loaded_calls_give_the_same_frames,
                    live_and_cached_results_give_the_same_frames,
                    pushed_messages_arrive_in_order_of_slots,
                    a_slot_is_published_once_and_never_after_a_later_one,
                    large_data_is_replaced_by_its_size_and_place,
                    the_state_goes_through_unchanged,
                    inner_steps_publish_each_slot,
                    outer_steps_publish_the_slot_that_was_asked_for,
                    other_steps_publish_nothing,
                    responses_publish_the_slot_that_was_asked_for,
                    other_responses_publish_nothing,
                    forged_executions_publish_nothing,
                    forged_steps_publish_nothing,
                    forged_responses_publish_nothing,
                    the_start_hook_takes_the_nodes_options,
                    anything_mutated_is_given_back_and_counted
                ]
            ]
        end}.

%%% Keys.

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
    %% What the resolver asks for what the device is: the highest arity but three.
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

%%% Casts as requests.

a_json_body_is_the_message(Client) ->
    {Base, #{<<"body">> := Body} = Request, Opts} = recorded:call("http_cast_json_post"),
    ?assertEqual({ok, <<"OK">>}, dev_websocket:cast(Base, Request, Opts)),
    [Frame] = ws_client:messages(Client, 1),
    ?assertEqual(json_reader:decode(Body), maps:get(<<"data">>, Frame)),
    ?assertMatch(#{<<"topic">> := <<"prices">>, <<"source">> := <<"http">>}, Frame),
    ?assertNot(is_map_key(<<"from">>, Frame)),
    ?assertNot(is_map_key(<<"process">>, Frame)),
    %% Kinds of JSON, also a list; and what only looks like it.
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
    %% Nothing here can verify a signature, so nobody is named as its signer.
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

odd_requests_are_told_what_is_wrong(Client) ->
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
    nothing_comes(Client).

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
    ?assert(count(<<"topics_reserved">>) - maps:get(<<"topics_reserved">>, Before) >= 3).

who_may_cast_is_the_operators_to_say(Client) ->
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
        %% One byte of what was signed is different.
        Altered = Request#{<<"action">> => <<"Mint">>},
        ?assertMatch({error, #{<<"status">> := 401}}, dev_websocket:cast(Base, Altered, Opts#{websocket_cast => signed})),
        ?assertMatch({ok, _}, dev_websocket:cast(Base, Altered, Opts)),
        [Unsigned] = ws_client:messages(Client, 1),
        ?assertNot(is_map_key(<<"from">>, Unsigned)),
        ?assertNotEqual(Operator, Signer)
    end),
    nothing_comes(Client).

%%% Results of processes.

a_slot_is_an_event_and_so_is_each_message(Client) ->
    {Id, {Base, Request, Opts}} = recorded:fresh(recorded:call("compute_stack_slot1_loaded")),
    ?assertEqual({ok, Base}, dev_websocket:compute(Base, Request, Opts)),
    [Result, First, Second] = ws_client:messages(Client, 3),
    Path = <<"/", Id/binary, "~process@1.0/compute&slot=1">>,
    #{facts := Facts} = recorded:term("compute_stack_slot1_loaded"),
    #{hashpath := Hashpath, assignment_id := Assignment, sender_signers := [Sender]} = Facts,
    [
        ?assertMatch(
            #{<<"process">> := Id, <<"slot">> := 1, <<"hashpath">> := Hashpath, <<"assignment">> := Assignment},
            Frame
        )
     ||
        Frame <- [Result, First, Second]
    ],
    ?assertEqual(
        #{
            <<"type">> => <<"result">>, <<"process">> => Id, <<"slot">> => 1, <<"outbox-count">> => 2, <<"sender">> => Sender,
            <<"output">> => #{<<"body">> => <<"count=2">>, <<"content-type">> => <<"text/plain">>}
        },
        maps:get(<<"data">>, Result)
    ),
    ?assertEqual(Path, maps:get(<<"path">>, Result)),
    ?assertEqual(
        [<<"outbox-count:2">>, <<"process:", Id/binary>>, <<"sender:", Sender/binary>>, <<"type:result">>],
        lists:sort(maps:get(<<"topics">>, Result))
    ),
    ?assertEqual(
        #{
            <<"action">> => <<"Price-Update">>, <<"data">> => <<"hello 2">>, <<"price">> => <<"7.22">>,
            <<"symbol">> => <<"AR">>, <<"target">> => <<"TARGET-ADDRESS-1">>, <<"topic">> => <<"prices">>,
            <<"from">> => Id, <<"process">> => Id
        },
        maps:get(<<"data">>, First)
    ),
    ?assertEqual({<<"prices">>, [Id], <<Path/binary, "/results/outbox/1">>},
        {maps:get(<<"topic">>, First), maps:get(<<"from">>, First), maps:get(<<"path">>, First)}),
    ?assertEqual(
        lists:sort([
            <<"prices">>, <<"process:", Id/binary>>, <<"from:", Id/binary>>, <<"action:Price-Update">>, <<"price:7.22">>,
            <<"symbol:AR">>, <<"target:TARGET-ADDRESS-1">>
        ]),
        lists:sort(maps:get(<<"topics">>, First))
    ),
    ?assertMatch(#{<<"data">> := #{<<"data">> := #{<<"n">> := 5, <<"nested">> := true}}}, Second),
    ?assertEqual(
        lists:sort([
            <<"process:", Id/binary>>, <<"from:", Id/binary>>, <<"action:Notify">>, <<"x-nested:yes">>, <<"target:TARGET-ADDRESS-2">>
        ]),
        lists:sort(maps:get(<<"topics">>, Second))
    ).

a_slot_without_messages_is_an_event(Client) ->
    {Id, {Base, Request, Opts}} = recorded:fresh(recorded:call("compute_stack_slot0_loaded")),
    ?assertEqual({ok, Base}, dev_websocket:compute(Base, Request, Opts)),
    [#{<<"data">> := Data}] = ws_client:messages(Client, 1),
    ?assertMatch(#{<<"slot">> := 0, <<"process">> := Id, <<"outbox-count">> := 0, <<"output">> := #{<<"body">> := <<"ready">>}}, Data),
    nothing_comes(Client).

lazy_and_loaded_calls_give_the_same_frames(Client) ->
    [
        begin
            Name = "compute_stack_slot" ++ integer_to_list(Slot),
            Frames = [frames_of_compute(Client, Each) || Each <- [Name, Name ++ "_loaded"]],
            [Lazy, Loaded] = [[without_sender(Frame) || Frame <- Of] || Of <- Frames],
            ?assertEqual(Loaded, Lazy),
            ?assertEqual(Slot, maps:get(<<"slot">>, hd(Loaded)))
        end
     ||
        Slot <- [0, 1, 2]
    ].

live_and_cached_results_give_the_same_frames(Client) ->
    Frames = fun(Name) -> frames_of_results(Client, recorded:term(Name)) end,
    [
        ?assertEqual({Kind, Frames("results_live_" ++ Kind)}, {Kind, Frames("results_cached_" ++ Kind)})
     ||
        Kind <- ["lua", "hyper_aos"]
    ],
    ?assert(length(Frames("results_live_lua")) > 1),
    %% What a list is in the cache.
    Results = recorded:term("results_live_lua"),
    #{<<"outbox">> := Outbox} = Results,
    Numbered = maps:from_list([{integer_to_binary(N), Message} || {N, Message} <- lists:zip(lists:seq(1, length(Outbox)), Outbox)]),
    ?assertEqual(frames_of_results(Client, Results), frames_of_results(Client, Results#{<<"outbox">> := Numbered})),
    Many = maps:from_list([{integer_to_binary(N), #{<<"n">> => N}} || N <- lists:seq(1, 12)]),
    ?assertEqual(
        lists:seq(1, 12),
        [N || #{<<"data">> := #{<<"n">> := N}} <- frames_of_results(Client, #{<<"outbox">> => Many})]
    ),
    ?assertMatch([#{<<"data">> := #{<<"outbox-count">> := 0}}], Frames("results_live_hyper_aos_slot0")),
    %% Links that nothing can load are told of as links.
    ?assertMatch(
        [#{<<"data">> := #{<<"output">> := #{<<"$link">> := _}}} | _], Frames("results_cached_lua_read")
    ).

pushed_messages_arrive_in_order_of_slots(Client) ->
    #{calls := Calls} = recorded:term("push_flow"),
    Results = [{Process, Slot, Of} || #{key := <<"compute">>, process_id := Process, slot := Slot, results := Of} <- Calls],
    ?assert(length(Results) > 2),
    Fresh = maps:from_list([{Process, recorded:process()} || {Process, _, _} <- Results]),
    [
        begin
            {Base, Request, Opts} = call_with(maps:get(Process, Fresh), Slot, Of),
            ?assertEqual({ok, Base}, dev_websocket:compute(Base, Request, Opts)),
            [#{<<"data">> := #{<<"outbox-count">> := Count}} = Frame] = ws_client:messages(Client, 1),
            ?assertEqual({maps:get(Process, Fresh), Slot}, {maps:get(<<"process">>, Frame), maps:get(<<"slot">>, Frame)}),
            ws_client:messages(Client, Count)
        end
     ||
        {Process, Slot, Of} <- Results
    ],
    nothing_comes(Client).

a_slot_is_published_once_and_never_after_a_later_one(Client) ->
    Id = recorded:process(),
    Compute = fun(Slot) ->
        {Base, Request, Opts} = call_with(Id, Slot, #{<<"output">> => Slot}),
        {ok, Base} = dev_websocket:compute(Base, Request, Opts)
    end,
    Before = count(<<"dropped_repeated">>),
    [Compute(Slot) || Slot <- [3, 3, 5, 4, 5, 6]],
    ?assertEqual([3, 5, 6], [maps:get(<<"slot">>, Frame) || Frame <- ws_client:messages(Client, 3)]),
    nothing_comes(Client),
    ?assertEqual(Before + 3, count(<<"dropped_repeated">>)),
    %% A stack that runs several times for a slot is done with its last pass.
    {Base, Request, Opts} = call_with(Id, 7, #{<<"output">> => <<"first">>}),
    {ok, _} = dev_websocket:compute(Base#{<<"pass">> => 1, <<"passes">> => 2}, Request, Opts),
    {ok, _} = dev_websocket:compute(Base#{<<"pass">> => 2, <<"passes">> => 2, <<"results">> => #{<<"output">> => <<"last">>}}, Request, Opts),
    ?assertMatch([#{<<"data">> := #{<<"output">> := <<"last">>}}], ws_client:messages(Client, 1)).

large_data_is_replaced_by_its_size_and_place(Client) ->
    #{max_data_bytes := Max} = dev_websocket:config(),
    Id = recorded:process(),
    Path = <<"/", Id/binary, "~process@1.0/compute&slot=1/results/outbox/">>,
    Outbox = [
        #{<<"Data">> => binary:copy(<<"x">>, Max)},
        #{<<"Data">> => binary:copy(<<"x">>, Max + 1), <<"Action">> => <<"Big">>},
        #{<<"a">> => binary:copy(<<1>>, Max), <<"b">> => binary:copy(<<1>>, Max), <<"Action">> => <<"Many">>}
    ],
    {Base, Request, Opts} = call_with(Id, 1, #{<<"outbox">> => Outbox}),
    {ok, Base} = dev_websocket:compute(Base, Request, Opts),
    [_, Whole, Large, Many] = ws_client:messages(Client, 4),
    ?assertEqual(Max, byte_size(maps:get(<<"data">>, maps:get(<<"data">>, Whole)))),
    ?assertMatch(
        #{<<"data">> := #{<<"$size">> := Size, <<"$get">> := <<Path:(byte_size(Path))/binary, "2/data">>}, <<"action">> := <<"Big">>} when Size =:= Max + 1,
        maps:get(<<"data">>, Large)
    ),
    ?assertMatch(#{<<"$omitted">> := _, <<"$get">> := <<Path:(byte_size(Path))/binary, "3">>}, maps:get(<<"data">>, Many)),
    ?assert(lists:member(<<"process:", Id/binary>>, maps:get(<<"topics">>, Many))).

the_state_goes_through_unchanged(Client) ->
    [
        begin
            {Base, Request, Opts} = recorded:call(Name),
            [
                begin
                    {ok, Same} = dev_websocket:Key(Base, Request, Opts),
                    ?assert(Same =:= Base),
                    ?assertEqual(term_to_binary(Base), term_to_binary(Same))
                end
             ||
                Key <- [init, compute, normalize]
            ],
            ?assertEqual({ok, #{}}, dev_websocket:snapshot(Base, Request, Opts))
        end
     ||
        "compute_stack" ++ _ = Name <- recorded:names()
    ],
    drain(Client).

%%% Hooks.

inner_steps_publish_each_slot(Client) ->
    {Id, {Handler, Step, Opts}} = recorded:fresh(recorded:call("step_hook_inner")),
    ?assertEqual({ok, Step}, dev_websocket:step(Handler, Step, Opts)),
    ?assertMatch(
        [#{<<"process">> := Id, <<"slot">> := 1}, #{<<"topic">> := <<"prices">>}, #{<<"process">> := Id}],
        ws_client:messages(Client, 3)
    ),
    %% The path may be left out: it is the hook's name then.
    {Unnamed, {_, Again, _}} = recorded:fresh(recorded:call("step_hook_inner")),
    ?assertEqual({ok, Again}, dev_websocket:step(maps:remove(<<"path">>, Handler), Again, Opts)),
    ?assertMatch([#{<<"process">> := Unnamed, <<"slot">> := 1}, #{}, #{}], ws_client:messages(Client, 3)),
    %% The step around it says the same again.
    {_, Outer, _} = recorded:call("step_hook_compute"),
    Other = recorded_id(Outer),
    Renamed = rename(Outer, Other, Id),
    ?assertEqual({ok, Renamed}, dev_websocket:step(Handler, Renamed, Opts)),
    nothing_comes(Client).

outer_steps_publish_the_slot_that_was_asked_for(Client) ->
    {Id, {Handler, Step, Opts}} = recorded:fresh(recorded:call("step_hook_compute")),
    ?assertEqual({ok, Step}, dev_websocket:step(Handler, Step, Opts)),
    ?assertMatch([#{<<"process">> := Id, <<"slot">> := 1}, #{}, #{}], ws_client:messages(Client, 3)),
    ?assertEqual({ok, Step}, dev_websocket:step(Handler, Step, Opts)),
    nothing_comes(Client).

other_steps_publish_nothing(Client) ->
    {Handler, Steps, Opts} = recorded:call("step_hook_noise"),
    Before = dropped(),
    [?assertEqual({ok, Step}, dev_websocket:step(Handler, Step, Opts)) || Step <- Steps],
    ?assertEqual(Before, dropped()),
    nothing_comes(Client).

responses_publish_the_slot_that_was_asked_for(Client) ->
    {Id, {Handler, Response, Opts}} = recorded:fresh(recorded:call("response_hook_compute")),
    ?assertEqual({ok, Response}, dev_websocket:response(Handler, Response, Opts)),
    ?assertMatch([#{<<"process">> := Id, <<"slot">> := 1, <<"hashpath">> := _}, #{}, #{}], ws_client:messages(Client, 3)),
    ?assertEqual({ok, Response}, dev_websocket:response(Handler, Response, Opts)),
    nothing_comes(Client),
    %% A list of handlers, and the other form of the path.
    {Other, {_, Again, _}} = recorded:fresh(recorded:call("response_hook_compute")),
    #{<<"request">> := Request} = Again,
    Changed = Again#{<<"request">> := Request#{<<"path">> := <<"/", Other/binary, "~process@1.0/compute&slot=1">>}},
    Listed = Opts#{on => #{<<"response">> => [#{<<"device">> => <<"x@1.0">>}, Handler]}},
    ?assertEqual({ok, Changed}, dev_websocket:response(Handler, Changed, Listed)),
    ?assertMatch([#{<<"process">> := Other}, #{}, #{}], ws_client:messages(Client, 3)).

other_responses_publish_nothing(Client) ->
    [
        begin
            {Handler, Response, Opts} = recorded:call("response_hook_" ++ Name),
            ?assertEqual({ok, Response}, dev_websocket:response(Handler, Response, Opts))
        end
     ||
        Name <- ["error", "meta", "cast", "cached"]
    ],
    nothing_comes(Client).

the_start_hook_takes_the_nodes_options(_Client) ->
    #{history_bytes := History} = dev_websocket:config(),
    Node = #{websocket_history_bytes => <<"1048576">>, websocket_port => nonsense, websocket_nothing => 1},
    Hook = #{<<"body">> => #{<<"websocket-history-bytes">> => 5, websocket_history_bytes => 6}, <<"path">> => <<"start">>},
    ?assertEqual({ok, Hook}, dev_websocket:start(#{}, Hook, Node)),
    ?assertMatch(#{history_bytes := 1048576}, dev_websocket:config()),
    %% A caller's request is not the hook, and says nothing about settings.
    Forged = Hook#{<<"host">> => <<"node">>, <<"websocket_history_bytes">> => <<"7">>},
    ?assertEqual({ok, Forged}, dev_websocket:start(#{}, Forged, #{websocket_history_bytes => 8})),
    ?assertMatch(#{history_bytes := 1048576}, dev_websocket:config()),
    ok = dev_websocket:start(#{history_bytes => History}).

%%% Strangers.

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

%%% Bad input.

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
    ?assertEqual(0, count(<<"faults">>)),
    ?assert(count(<<"dropped_untrusted">>) > 0),
    drain(Client).

keys() ->
    [{"http_cast", cast}, {"compute_stack", compute}, {"step_hook", step}, {"response_hook", response}].

is_call("step_hook_shapes") -> false;
is_call("step_hook_noise") -> false;
is_call(_) -> true.

%%% What the tests are made of.

with_client(Uri, Name) ->
    {ok, Client} = ws_client:connect(Uri, "topic=*"),
    #{<<"type">> := <<"connection_established">>} = ws_client:recv_json(Client),
    ?MODULE:Name(Client),
    ws_client:close(Client).

%% @doc Nothing was published before this. What is cast now comes next.
nothing_comes(Client) ->
    Mark = erlang:unique_integer([positive]),
    {ok, <<"OK">>} = dev_websocket:cast(#{<<"mark">> => Mark}, #{}),
    ?assertMatch([#{<<"data">> := #{<<"mark">> := Mark}}], ws_client:messages(Client, 1)).

drain(Client) ->
    Mark = erlang:unique_integer([positive]),
    {ok, <<"OK">>} = dev_websocket:cast(#{<<"mark">> => Mark}, #{}),
    drain_to(Client, Mark).

drain_to(Client, Mark) ->
    case ws_client:recv_json(Client) of
        #{<<"data">> := #{<<"mark">> := Mark}} -> ok;
        _ -> drain_to(Client, Mark)
    end.

%% @doc Each call changes nothing, publishes nothing, and is counted as not trusted.
rejects(Client, Key, Opts, Calls) ->
    [
        begin
            Before = count(<<"dropped_untrusted">>),
            gives_back(Client, Key, Opts, [Call]),
            ?assertEqual({Key, Call, Before + 1}, {Key, Call, count(<<"dropped_untrusted">>)})
        end
     ||
        Call <- Calls
    ].

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
    nothing_comes(Client).

frames_of_compute(Client, Name) ->
    {Id, {Base, Request, Opts}} = recorded:fresh(recorded:call(Name)),
    {ok, Base} = dev_websocket:compute(Base, Request, Opts),
    frames(Client, Id).

frames_of_results(Client, Results) ->
    Id = recorded:process(),
    {Base, Request, Opts} = call_with(Id, 1, Results),
    {ok, Base} = dev_websocket:compute(Base, Request, Opts),
    frames(Client, Id).

%% @doc All that comes of a slot, without what differs between two times.
frames(Client, Id) ->
    [#{<<"data">> := #{<<"outbox-count">> := Count}} = Result] = ws_client:messages(Client, 1),
    [
        rename(maps:without([<<"seq">>, <<"timestamp">>], Frame), Id, <<"ID">>)
     ||
        Frame <- [Result | ws_client:messages(Client, Count)]
    ].

%% @doc Who sent the message is in the message, which a lazy call does not have.
without_sender(#{<<"data">> := Data, <<"topics">> := Topics} = Frame) ->
    Others = [Topic || Topic <- Topics, binary:match(Topic, <<"sender:">>) =/= {0, 7}],
    Frame#{<<"data">> := maps:remove(<<"sender">>, Data), <<"topics">> := Others}.

%% @doc A recorded call for another process, slot and result.
call_with(Id, Slot, Results) ->
    {Base, Request, Opts} = recorded:call("compute_stack_slot1_loaded"),
    {Renamed, Asked} = rename({Base, Request}, recorded_id(Base), Id),
    {Renamed#{<<"results">> => Results, <<"at-slot">> => Slot - 1}, Asked#{<<"slot">> => Slot}, Opts}.

recorded_id(#{<<"base">> := Process}) ->
    {ok, Id} = dev_websocket_node:id(Process, #{}),
    Id;
recorded_id(#{<<"process">> := Process}) ->
    {ok, Id} = dev_websocket_node:id(Process, #{}),
    Id.

rename(Term, Old, New) when is_binary(Term) -> binary:replace(Term, Old, New, [global]);
rename(Term, Old, New) when is_map(Term) ->
    maps:from_list([{rename(Key, Old, New), rename(Value, Old, New)} || {Key, Value} <- maps:to_list(Term)]);
rename([Head | Tail], Old, New) -> [rename(Head, Old, New) | rename(Tail, Old, New)];
rename(Term, Old, New) when is_tuple(Term) -> list_to_tuple(rename(tuple_to_list(Term), Old, New));
rename(Term, _, _) -> Term.

count(Name) -> maps:get(Name, dev_websocket:stats()).

dropped() ->
    maps:filter(fun(Name, _) -> binary:match(Name, <<"dropped">>) =/= nomatch end, dev_websocket:stats()).

%% @doc A node whose `hb_message' takes a message's signature for valid as long as
%% its action is the recorded one, and covers what was committed.
with_verifying_node(Run) ->
    Code =
        "-module(hb_message).\n"
        "-export([verify/2, signers/1, with_only_committed/1]).\n"
        "verify(#{<<\"action\">> := Action}, all) -> Action =:= <<\"Transfer\">>.\n"
        "signers(#{<<\"commitments\">> := All}) -> [Signer || #{<<\"committer\">> := Signer} <- maps:values(All)].\n"
        "with_only_committed(Msg) -> {ok, maps:with([<<\"action\">>, <<\"data\">>, <<\"quantity\">>, <<\"target\">>, <<\"commitments\">>], Msg)}.\n",
    {ok, Tokens, _} = erl_scan:string(Code),
    Forms = forms(Tokens, []),
    {ok, hb_message, Beam} = compile:forms(Forms),
    {module, hb_message} = code:load_binary(hb_message, "hb_message.beam", Beam),
    try Run()
    after
        code:delete(hb_message),
        code:purge(hb_message)
    end.

forms([], []) -> [];
forms([{dot, _} = Dot | Rest], Form) ->
    {ok, Parsed} = erl_parse:parse_form(lists:reverse([Dot | Form])),
    [Parsed | forms(Rest, [])];
forms([Token | Rest], Form) -> forms(Rest, [Token | Form]).
