%%% @doc Events in outputs: lines that are JSON objects with `"_e":1' are further events of
%%% their slot, the same for new and replayed slots, and they claim nothing of the node.
-module(output_event_tests).
-include_lib("eunit/include/eunit.hrl").

output_event_test_() ->
    followed:cases(?MODULE, [
        lines_are_events_behind_the_messages,
        every_place_of_an_output_is_read_once,
        replayed_events_are_those_of_live_slots,
        topics_and_templates_choose_events,
        at_the_limit_of_max_output_events,
        long_lines_are_counted,
        a_line_claims_nothing_of_the_node,
        hostile_outputs_stay_bounded,
        outputs_beyond_max_data_bytes_are_read,
        crashes_amid_events_repeat_and_lose_nothing,
        lines_that_are_no_events_are_refused
    ]).

-compile([export_all, nowarn_export_all]).

lines_are_events_behind_the_messages(Store) ->
    {Id, Client} = followed_process(Store),
    print(Store, Id, 0, [
        "New Message", event("\"Action\":\"Buy\",\"qty\":7"), "{\"no\":1}", event("\"Action\":\"Sell\"")
    ], #{<<"outbox">> => #{<<"1">> => #{<<"n">> => 1}}}),
    [Result, Message, Buy, Sell] = followed:frames(Client, 4),
    ?assertMatch(#{<<"outbox-count">> := 1, <<"event-count">> := 2, <<"output">> := #{<<"data">> := <<"New Message", _/binary>>}}, data(Result)),
    ?assertNot(is_map_key(<<"events-omitted">>, data(Result))),
    ?assertMatch(#{<<"n">> := 1}, data(Message)),
    ?assertEqual(#{<<"_e">> => 1, <<"Action">> => <<"Buy">>, <<"qty">> => 7, <<"from">> => Id, <<"process">> => Id}, data(Buy)),
    ?assertMatch(#{<<"Action">> := <<"Sell">>}, data(Sell)),
    Path = <<"/", Id/binary, "~process@1.0/compute&slot=0/results/output/data">>,
    ?assertMatch(#{<<"process">> := Id, <<"slot">> := 0, <<"path">> := Path, <<"from">> := [Id], <<"assignment">> := <<_:43/binary>>}, Buy),
    ?assertEqual(
        lists:sort([<<"_e:1">>, <<"action:Buy">>, <<"qty:7">>, <<"process:", Id/binary>>, <<"from:", Id/binary>>]),
        lists:sort(maps:get(<<"topics">>, Buy))
    ),
    %% A slot without such lines is as it was.
    print(Store, Id, 1, ["New Message \"_e\"", "{\"_e\":0}"], #{}),
    [Other] = followed:results(Client, [1]),
    ?assertNot(is_map_key(<<"event-count">>, data(Other)) orelse is_map_key(<<"events-omitted">>, data(Other))),
    followed:nothing_comes(Client).

every_place_of_an_output_is_read_once(Store) ->
    {Id, Client} = followed_process(Store),
    Line = fun(N) -> event(io_lib:format("\"n\":~b", [N])) end,
    Results = [
        {#{<<"output">> => Line(1)}, <<"output">>},
        {#{<<"output">> => #{<<"data">> => Line(1), <<"prompt">> => <<"aos> ">>}}, <<"output/data">>},
        {#{<<"output">> => #{<<"data">> => #{<<"output">> => Line(1), <<"prompt">> => <<"aos> ">>}}}, <<"output/data/output">>},
        {#{<<"output">> => #{<<"body">> => Line(1)}}, <<"output/body">>},
        {#{<<"output">> => #{<<"print">> => Line(1)}}, <<"output/print">>},
        {#{<<"data">> => Line(1)}, <<"data">>},
        {#{<<"data">> => #{<<"output">> => Line(1)}}, <<"data/output">>},
        %% Other places repeat the same.
        {#{<<"output">> => #{<<"data">> => Line(1)}, <<"data">> => Line(1), <<"json">> => #{<<"body">> => Line(2)}}, <<"output/data">>}
    ],
    [
        begin
            _ = compute(Store, Id, Slot, Result),
            [First, Event] = followed:frames(Client, 2),
            ?assertMatch({Place, #{<<"event-count">> := 1}}, {Place, data(First)}),
            ?assertMatch({Place, #{<<"n">> := 1}}, {Place, data(Event)}),
            Path = <<"/", Id/binary, "~process@1.0/compute&slot=", (integer_to_binary(Slot))/binary, "/results/", Place/binary>>,
            ?assertEqual(Path, maps:get(<<"path">>, Event))
        end
     ||
        {Slot, {Result, Place}} <- lists:zip(lists:seq(0, length(Results) - 1), Results)
    ],
    _ = compute(Store, Id, length(Results), #{<<"output">> => #{<<"data">> => Line(1), <<"body">> => Line(2)}, <<"data">> => Line(3)}),
    [_ | Events] = followed:frames(Client, 4),
    ?assertEqual([1, 2, 3], [N || #{<<"data">> := #{<<"n">> := N}} <- Events]),
    followed:nothing_comes(Client).

replayed_events_are_those_of_live_slots(Store) ->
    {Id, Client} = followed_process(Store),
    Messages = #{<<"outbox">> => #{<<"1">> => #{<<"n">> => 1}, <<"2">> => #{<<"n">> => 2}}},
    [print(Store, Id, Slot, [event(io_lib:format("\"n\":~b", [N])) || N <- lists:seq(3, 120)], Messages) || Slot <- [0, 1]],
    Plain = fun(Frames) -> [maps:without([<<"seq">>, <<"timestamp">>, <<"replayed">>], Frame) || Frame <- Frames] end,
    Live = followed:frames(Client, 2 * 103),
    Again = fresh_server:client(["process=", Id, "&from-slot=0"]),
    Replayed = followed:frames(Again, 2 * 103),
    ?assertEqual(Plain(Live), Plain(Replayed)),
    ?assertMatch(#{<<"event-count">> := 100, <<"events-omitted">> := 18}, data(hd(Live))),
    ?assertMatch(#{<<"type">> := <<"live">>, <<"slot">> := 2}, ws_client:recv_json(Again)),
    print(Store, Id, 2, [event("\"last\":true")], #{}),
    ?assertMatch([#{<<"slot">> := 2}, #{<<"data">> := #{<<"last">> := true}}], followed:frames(Again, 2)).

topics_and_templates_choose_events(Store) ->
    {Id, All} = followed_process(Store),
    Clients = [fresh_server:client(["process=", Id, "&template=", uri_string:quote(Template)]) || Template <- [
        "{\"_e\":1,\"action\":\"buy\"}", "{\"process\":\"other\"}", "{\"slot\":99}", "{\"from\":\"other\"}"
    ]],
    Topic = fresh_server:client("topic=action:buy"),
    Claim = "\"action\":\"buy\",\"process\":\"other\",\"slot\":99,\"from\":\"other\",\"tags\":{\"slot\":99,\"from\":\"other\",\"process\":\"other\"}",
    print(Store, Id, 0, [event(Claim)], #{}),
    _ = followed:frames(All, 2),
    [?assertMatch([#{<<"slot">> := 0, <<"data">> := #{<<"action">> := <<"buy">>}}], followed:frames(Client, 1)) || Client <- [hd(Clients), Topic]],
    [followed:nothing_comes(Client) || Client <- tl(Clients)].

at_the_limit_of_max_output_events(Store) ->
    ok = dev_websocket:start(#{max_output_events => 3}),
    {Id, Client} = followed_process(Store),
    Lines = fun(Count) -> [event(io_lib:format("\"n\":~b", [N])) || N <- lists:seq(1, Count)] end,
    print(Store, Id, 0, Lines(3), #{}),
    [Whole | Three] = followed:frames(Client, 4),
    ?assertEqual([1, 2, 3], [N || #{<<"data">> := #{<<"n">> := N}} <- Three]),
    ?assertMatch(#{<<"event-count">> := 3}, data(Whole)),
    ?assertNot(is_map_key(<<"events-omitted">>, data(Whole))),
    print(Store, Id, 1, Lines(4), #{}),
    [Cut | Again] = followed:frames(Client, 4),
    ?assertEqual([1, 2, 3], [N || #{<<"data">> := #{<<"n">> := N}} <- Again]),
    ?assertMatch(#{<<"event-count">> := 3, <<"events-omitted">> := 1}, data(Cut)),
    %% None at all.
    ok = dev_websocket:start(#{max_output_events => 0}),
    print(Store, Id, 2, Lines(2), #{}),
    [Without] = followed:results(Client, [2]),
    ?assertNot(is_map_key(<<"event-count">>, data(Without)) orelse is_map_key(<<"events-omitted">>, data(Without))),
    followed:nothing_comes(Client).

long_lines_are_counted(Store) ->
    {Id, Client} = followed_process(Store),
    Long = event(["\"a\":\"", binary:copy(<<"x">>, 65_536), "\""]),
    print(Store, Id, 0, [Long, event("\"n\":1")], #{}),
    [Result, Event] = followed:frames(Client, 2),
    ?assertMatch(#{<<"event-count">> := 1, <<"events-omitted">> := 1}, data(Result)),
    ?assertMatch(#{<<"n">> := 1}, data(Event)),
    %% Larger than the part of a turn of the scheduler.
    Half = event(["\"n\":2,\"a\":\"", binary:copy(<<"x">>, 60_000), "\""]),
    print(Store, Id, 1, [Half, Half, Half], #{}),
    [_ | Halves] = followed:frames(Client, 4),
    ?assertEqual([2, 2, 2], [N || #{<<"data">> := #{<<"n">> := N}} <- Halves]).

a_line_claims_nothing_of_the_node(Store) ->
    {Id, Client} = followed_process(Store),
    Other = stand_in:id(),
    Spy = fresh_server:client(["process=", Other]),
    Spies = fresh_server:client(["topic=from:", Other, ",slot:99"]),
    Claims = [
        ["\"process\":\"", Other, "\""],
        ["\"PROCESS\":\"", Other, "\",\"From\":\"", Other, "\",\"slot\":99"],
        ["\" process \":\"", Other, "\",\"\\u0070rocess\":\"", Other, "\""],
        ["\"topic\":\"process:", Other, ",from:", Other, "\""],
        ["\"topics\":[\"process:", Other, "\",[\"from:", Other, "\"]]"],
        ["\"tags\":{\"process\":\"", Other, "\",\"from\":\"", Other, "\"}"],
        ["\"Tags\":[{\"name\":\"Process\",\"value\":\"", Other, "\"},{\"name\":\"topic\",\"value\":\"from:", Other, "\"}]"],
        ["\"process:", Other, "\":\"x\",\"from:", Other, "\":\"\""],
        ["\"process\":\"x\",\"process\":\"", Other, "\""],
        ["\"path\":\"/", Other, "\",\"assignment\":\"", Other, "\",\"type\":\"result\",\"outbox-count\":5,\"commitments\":{\"x\":1},\"priv-key\":\"x\""]
    ],
    print(Store, Id, 0, [event(Claim) || Claim <- Claims], #{}),
    [_ | Events] = followed:frames(Client, length(Claims) + 1),
    [
        begin
            ?assertMatch(#{<<"process">> := Id, <<"slot">> := 0, <<"from">> := [Id], <<"data">> := #{<<"process">> := Id, <<"from">> := Id}}, Event),
            ?assertEqual([], [Key || Key <- maps:keys(data(Event)), lists:member(string:trim(string:lowercase(Key)), [<<"slot">>, <<"commitments">>, <<"priv-key">>])]),
            Reserved = [Topic || <<Key:5/binary, _/binary>> = Topic <- maps:get(<<"topics">>, Event), lists:member(Key, [<<"proce">>, <<"from:">>])],
            ?assertEqual(lists:sort([<<"process:", Id/binary>>, <<"from:", Id/binary>>]), lists:sort(Reserved))
        end
     || Event <- Events
    ],
    [followed:nothing_comes(Each) || Each <- [Spy, Spies]].

hostile_outputs_stay_bounded(Store) ->
    {Id, Client} = followed_process(Store),
    Deep = [binary:copy(<<"[">>, 20_000), binary:copy(<<"]">>, 20_000)],
    Hostile = [
        binary:copy(<<"{\"_e\":1}\n">>, 1_000_000),
        binary:copy(<<"{\"_e\":2}\n">>, 100_000),
        binary:copy(<<"\n">>, 1_000_000),
        iolist_to_binary(event(["\"a\":", Deep])),
        iolist_to_binary(event(["\"a\":[", binary:copy(<<"0,">>, 30_000), "0]"])),
        <<"{\"_e\":1,\"a\":\"", 255, 254, "\"}">>,
        <<0, 1, 2, "\"_e\"", 255>>,
        iolist_to_binary(event(["\"a\":\"\\ud800\""])),
        iolist_to_binary(event([[io_lib:format("\"k~b\":~b,", [N, N]) || N <- lists:seq(1, 4000)], "\"z\":1"]))
    ],
    Counts = [{100, 999_900}, {0, 90_000}, {0, 0}, {0, 0}, {1, 0}, {0, 0}, {0, 0}, {0, 0}, {1, 0}],
    [
        begin
            _ = compute(Store, Id, Slot, #{<<"output">> => #{<<"data">> => Output}}),
            [Result | Events] = followed:frames(Client, Count + 1),
            Told = {maps:get(<<"event-count">>, data(Result), 0), maps:get(<<"events-omitted">>, data(Result), 0)},
            ?assertEqual({Slot, {Count, Omitted}}, {Slot, Told}),
            ?assertEqual([], [Frame || #{<<"slot">> := Of} = Frame <- Events, Of =/= Slot])
        end
     ||
        {Slot, Output, {Count, Omitted}} <- lists:zip3(lists:seq(0, length(Hostile) - 1), Hostile, Counts)
    ],
    followed:nothing_comes(Client),
    ?assertEqual(0, followed:count(<<"panics">>)).

outputs_beyond_max_data_bytes_are_read(Store) ->
    {Id, Client} = followed_process(Store),
    print(Store, Id, 0, [binary:copy(<<"x">>, 300_000), event("\"n\":1")], #{}),
    [Result, Event] = followed:frames(Client, 2),
    ?assertMatch(#{<<"output">> := #{<<"data">> := #{<<"$size">> := _}}, <<"event-count">> := 1}, data(Result)),
    ?assertMatch(#{<<"n">> := 1}, data(Event)).

crashes_amid_events_repeat_and_lose_nothing(Store) ->
    ok = dev_websocket:start(#{max_output_events => 1000}),
    {Id, Client} = followed_process(Store),
    Server = followed:tails(),
    Asked = counters:new(1, []),
    %% Every fortieth call of the store kills the reader that made it.
    stand_in:fault(Store, fun() ->
        ok = counters:add(Asked, 1, 1),
        counters:get(Asked, 1) rem 40 =:= 0 andalso self() =/= Server andalso exit(kill)
    end),
    Lines = [event(io_lib:format("\"n\":~b", [N])) || N <- lists:seq(1, 450)],
    [print(Store, Id, Slot, Lines, #{}) || Slot <- lists:seq(0, 3)],
    Frames = followed:frames(Client, 4 * 451),
    ?assertEqual([Slot || Slot <- lists:seq(0, 3), _ <- lists:seq(0, 450)], followed:slots(Frames)),
    ?assertEqual(lists:append(lists:duplicate(4, lists:seq(1, 450))), [N || #{<<"data">> := #{<<"n">> := N}} <- Frames]),
    followed:nothing_comes(Client).

lines_that_are_no_events_are_refused(_Store) ->
    Id = stand_in:id(),
    {ok, 0, 0, []} = hb_websocket_nif:set_slot_mark(Id, 0),
    Bad = [<<>>, <<"x">>, <<"{}">>, <<"{\"_e\":2}">>, <<"[1]">>, <<255>>, iolist_to_binary(event(["\"a\":\"", binary:copy(<<"x">>, 65_536), "\""]))],
    [?assertMatch({error, {bad_argument, _}}, published(Id, [{{json, Line}, #{process => Id}}])) || Line <- Bad],
    %% No process is known.
    ?assertMatch({error, {bad_argument, _}}, published(Id, [{{json, <<"{\"_e\":1}">>}, #{}}])),
    ?assertEqual({ok, 0, 0, []}, hb_websocket_nif:slot_mark(Id)),
    ?assertMatch({error, {bad_argument, _}}, hb_websocket_nif:output_events(text, 1)),
    ?assertMatch({error, {bad_argument, _}}, hb_websocket_nif:output_events(<<>>, -1)),
    ?assertEqual({ok, [], 0}, hb_websocket_nif:output_events(<<>>, 1)),
    ?assertEqual({ok, [<<"{\"_e\":1}">>], 1}, hb_websocket_nif:output_events(<<"a\n{\"_e\":1}\n{\"_e\":1}">>, 1)).

published(Id, Events) ->
    case hb_websocket_nif:publish_slot(Id, 0, 0, Events, true) of
        large -> hb_websocket_nif:publish_slot_large(Id, 0, 0, Events, true);
        Answer -> Answer
    end.

%%% Helpers.

followed_process(Store) ->
    Id = stand_in:process(Store, #{}),
    Client = fresh_server:client(["process=", Id]),
    followed:until(fun() -> is_followed(Id) end),
    {Id, Client}.

is_followed(Id) ->
    _ = followed:tails(),
    ets:member(hb_websocket_followed, Id).

print(Store, Id, Slot, Lines, Results) ->
    Text = iolist_to_binary(lists:join("\n", Lines)),
    compute(Store, Id, Slot, Results#{<<"output">> => #{<<"data">> => Text, <<"prompt">> => <<"aos> ">>}}).

compute(Store, Id, Slot, Results) ->
    _ = stand_in:compute(Store, Id, Slot, Results),
    dev_websocket:hint(Id).

event(Fields) -> iolist_to_binary(["{\"_e\":1,", Fields, "}"]).

data(#{<<"data">> := Data}) -> Data.
