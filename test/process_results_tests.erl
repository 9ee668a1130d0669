%%% @doc Results of processes as a node hands them over, through the stack and its
%%% hooks: what is published of them, once and in order.
-module(process_results_tests).
-include_lib("eunit/include/eunit.hrl").

-compile([export_all, nowarn_export_all]).

process_results_test_() ->
    node_calls:cases(?MODULE, [
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
        other_responses_publish_nothing
    ]).

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
    node_calls:nothing_comes(Client).

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
    node_calls:nothing_comes(Client).

a_slot_is_published_once_and_never_after_a_later_one(Client) ->
    Id = recorded:process(),
    Compute = fun(Slot) ->
        {Base, Request, Opts} = call_with(Id, Slot, #{<<"output">> => Slot}),
        {ok, Base} = dev_websocket:compute(Base, Request, Opts)
    end,
    Before = node_calls:count(<<"dropped_repeated">>),
    [Compute(Slot) || Slot <- [3, 3, 5, 4, 5, 6]],
    ?assertEqual([3, 5, 6], [maps:get(<<"slot">>, Frame) || Frame <- ws_client:messages(Client, 3)]),
    node_calls:nothing_comes(Client),
    ?assertEqual(Before + 3, node_calls:count(<<"dropped_repeated">>)),
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
    node_calls:drain(Client).

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
    Other = node_calls:recorded_id(Outer),
    Renamed = node_calls:rename(Outer, Other, Id),
    ?assertEqual({ok, Renamed}, dev_websocket:step(Handler, Renamed, Opts)),
    node_calls:nothing_comes(Client).

outer_steps_publish_the_slot_that_was_asked_for(Client) ->
    {Id, {Handler, Step, Opts}} = recorded:fresh(recorded:call("step_hook_compute")),
    ?assertEqual({ok, Step}, dev_websocket:step(Handler, Step, Opts)),
    ?assertMatch([#{<<"process">> := Id, <<"slot">> := 1}, #{}, #{}], ws_client:messages(Client, 3)),
    ?assertEqual({ok, Step}, dev_websocket:step(Handler, Step, Opts)),
    node_calls:nothing_comes(Client).

other_steps_publish_nothing(Client) ->
    {Handler, Steps, Opts} = recorded:call("step_hook_noise"),
    Before = dropped(),
    [?assertEqual({ok, Step}, dev_websocket:step(Handler, Step, Opts)) || Step <- Steps],
    ?assertEqual(Before, dropped()),
    node_calls:nothing_comes(Client).

responses_publish_the_slot_that_was_asked_for(Client) ->
    {Id, {Handler, Response, Opts}} = recorded:fresh(recorded:call("response_hook_compute")),
    ?assertEqual({ok, Response}, dev_websocket:response(Handler, Response, Opts)),
    ?assertMatch([#{<<"process">> := Id, <<"slot">> := 1, <<"hashpath">> := _}, #{}, #{}], ws_client:messages(Client, 3)),
    ?assertEqual({ok, Response}, dev_websocket:response(Handler, Response, Opts)),
    node_calls:nothing_comes(Client),
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
    node_calls:nothing_comes(Client).

%%% What the tests are made of.

%% @doc A recorded call for another process, slot and result.
call_with(Id, Slot, Results) ->
    {Base, Request, Opts} = recorded:call("compute_stack_slot1_loaded"),
    {Renamed, Asked} = node_calls:rename({Base, Request}, node_calls:recorded_id(Base), Id),
    {Renamed#{<<"results">> => Results, <<"at-slot">> => Slot - 1}, Asked#{<<"slot">> => Slot}, Opts}.

%% @doc All that comes of a slot, without what differs between two times.
frames(Client, Id) ->
    [#{<<"data">> := #{<<"outbox-count">> := Count}} = Result] = ws_client:messages(Client, 1),
    [
        node_calls:rename(maps:without([<<"seq">>, <<"timestamp">>], Frame), Id, <<"ID">>)
     ||
        Frame <- [Result | ws_client:messages(Client, Count)]
    ].

frames_of_compute(Client, Name) ->
    {Id, {Base, Request, Opts}} = recorded:fresh(recorded:call(Name)),
    {ok, Base} = dev_websocket:compute(Base, Request, Opts),
    frames(Client, Id).

frames_of_results(Client, Results) ->
    Id = recorded:process(),
    {Base, Request, Opts} = call_with(Id, 1, Results),
    {ok, Base} = dev_websocket:compute(Base, Request, Opts),
    frames(Client, Id).

%% @doc Who sent the message is in the message, which a lazy call does not have.
without_sender(#{<<"data">> := Data, <<"topics">> := Topics} = Frame) ->
    Others = [Topic || Topic <- Topics, binary:match(Topic, <<"sender:">>) =/= {0, 7}],
    Frame#{<<"data">> := maps:remove(<<"sender">>, Data), <<"topics">> := Others}.

dropped() ->
    maps:filter(fun(Name, _) -> binary:match(Name, <<"dropped">>) =/= nomatch end, dev_websocket:stats()).
