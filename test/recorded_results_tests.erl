%%% @doc The recorded stores of real nodes, as subscribers get them.
-module(recorded_results_tests).
-include_lib("eunit/include/eunit.hrl").

recorded_results_test_() ->
    followed:cases(?MODULE, [
        a_ledger_sends_its_messages,
        pushed_messages_have_the_process_that_sent_them,
        an_error_is_published,
        a_node_of_september_is_read_as_well,
        a_slot_far_ahead_changes_nothing,
        large_and_deep_values_are_replaced_by_their_path
    ]).

-compile([export_all, nowarn_export_all]).

a_ledger_sends_its_messages(_Store) ->
    {Id, Frames} = published("ledger", june, [0, 1, 2]),
    Results = [Frame || #{<<"data">> := #{<<"type">> := <<"result">>}} = Frame <- Frames],
    ?assertEqual([0, 1, 2], followed:slots(Results)),
    [
        ?assertMatch(#{<<"outbox-count">> := 1, <<"output">> := _, <<"sender">> := <<_:43/binary>>}, Data)
     ||
        #{<<"data">> := Data} <- Results
    ],
    Messages = Frames -- Results,
    ?assertEqual([0, 1, 2], followed:slots(Messages)),
    [
        begin
            ?assertMatch(#{<<"from">> := Id, <<"process">> := Id}, Data),
            ?assertEqual([], [Key || Key <- maps:keys(Data), Key =/= string:lowercase(Key)]),
            ?assert(lists:member(<<"from:", Id/binary>>, Topics))
        end
     ||
        #{<<"data">> := Data, <<"topics">> := Topics} <- Messages
    ].

pushed_messages_have_the_process_that_sent_them(_Store) ->
    {_, Frames} = published("pushed", june, [0, 1]),
    Senders = [Sender || #{<<"data">> := #{<<"sender">> := Sender}} <- Frames],
    #{store := Entries} = recorded:term("slot_store_pushed"),
    Named = [Path || {Path, _} <- Entries, binary:match(Path, <<"/from-process">>) =/= nomatch],
    ?assert(Named =/= [] andalso Senders =/= []),
    [?assertEqual(true, dev_websocket_cache:is_id(Sender)) || Sender <- Senders].

an_error_is_published(_Store) ->
    {_, Frames} = published("error", june, slots_of("error")),
    ?assert(lists:any(fun(#{<<"data">> := Data}) -> is_map_key(<<"error">>, Data) end, Frames)).

a_node_of_september_is_read_as_well(_Store) ->
    Slots = slots_of("september"),
    ?assert(length(Slots) > 3),
    {_, Frames} = published("september", september, Slots),
    Results = [Frame || #{<<"data">> := #{<<"type">> := <<"result">>}} = Frame <- Frames],
    ?assertEqual(Slots, followed:slots(Results)),
    [?assertMatch(#{<<"assignment">> := <<_:43/binary>>}, Frame) || Frame <- Results].

a_slot_far_ahead_changes_nothing(_Store) ->
    {_, Frames} = published("island", june, [0, 1, 2]),
    ?assertEqual([0, 1, 2], lists:usort(followed:slots(Frames))).

large_and_deep_values_are_replaced_by_their_path(Store) ->
    Id = stand_in:process(Store, #{}),
    Client = fresh_server:client("process=" ++ binary_to_list(Id)),
    tails_tests:until_followed(Id, 0),
    Deep = lists:foldl(fun(N, Inner) -> #{<<"n">> => N, <<"in">> => Inner} end, #{<<"end">> => 1}, lists:seq(1, 90)),
    Many = maps:from_list([{integer_to_binary(N), binary:copy(<<"y">>, 200_000)} || N <- lists:seq(100, 140)]),
    _ = stand_in:compute(Store, Id, 0, #{
        <<"output">> => #{<<"body">> => binary:copy(<<"x">>, 300_000)},
        <<"data">> => Deep,
        <<"outbox">> => #{<<"1">> => Many, <<"2">> => #{<<"action">> => <<"Small">>}, <<"x">> => #{<<"action">> => <<"None">>}}
    }),
    Path = <<"/", Id/binary, "~process@1.0/compute&slot=0">>,
    Place = <<Path/binary, "/results/output/body">>,
    [#{<<"data">> := Result}, Large, Small] = followed:frames(Client, 3),
    ?assertMatch(#{<<"outbox-count">> := 2, <<"output">> := #{<<"body">> := #{<<"$size">> := 300_000, <<"$get">> := Place}}}, Result),
    ?assertMatch(#{<<"data">> := #{<<"action">> := <<"Small">>}}, Small),
    %% A message of 8 MB is told by its place.
    ?assertMatch(#{<<"path">> := <<_/binary>>, <<"process">> := Id}, Large),
    ?assert(iolist_size(io_lib:format("~p", [Large])) < 10_000).

values_have_at_most_max_data_bytes_test() ->
    ok = dev_websocket:start(#{max_data_bytes => 1000}),
    #{max_data_bytes := Max} = hb_websocket_nif:settings(),
    ok = dev_websocket:stop(),
    ?assertEqual(1000, Max),
    Facts = #{process => <<"p">>, slot => 7},
    Value = fun(Bytes) ->
        {#{<<"data">> := Data}, _} =
            dev_websocket_process:result_event(Facts, #{<<"data">> => binary:copy(<<"x">>, Bytes)}, 0, Max),
        Data
    end,
    [?assertEqual(binary:copy(<<"x">>, Bytes), Value(Bytes)) || Bytes <- [999, 1000]],
    ?assertEqual(#{<<"$size">> => 1001, <<"$get">> => <<"/p~process@1.0/compute&slot=7/results/data">>}, Value(1001)).

%%% Helpers.

%% @doc The frames of a subscriber of everything, with the process followed from its start.
published(Name, Generation, Slots) ->
    Store = stand_in:recorded(Name),
    #{roots := [<<"computed/", Id:43/binary>> | _]} = recorded:term("slot_store_" ++ Name),
    Opts = (stand_in:options(Store))#{address => cache_tests:address(Store, Id)},
    Client = fresh_server:client("topic=*"),
    stand_in:beside({Generation, Opts}, fun() ->
        {ok, Cache} = dev_websocket_cache:open(Opts),
        {ok, 0, 0, []} = hb_websocket_nif:set_slot_mark(Id, hd(Slots)),
        ?assertMatch({caught_up, _}, dev_websocket_tail:read(Cache, Id, unknown))
    end),
    Last = lists:last(Slots) + 1,
    ?assertMatch({ok, Last, 0, []}, hb_websocket_nif:slot_mark(Id)),
    Mark = erlang:unique_integer([positive]),
    {ok, _} = dev_websocket:cast(#{<<"mark">> => Mark}, #{}),
    {Id, frames_until(Client, Mark)}.

frames_until(Client, Mark) ->
    case ws_client:recv_json(Client) of
        #{<<"data">> := #{<<"mark">> := Mark}} -> [];
        Frame -> [Frame | frames_until(Client, Mark)]
    end.

%% @doc The unbroken run of slots in a recorded store.
slots_of(Name) ->
    #{store := Entries, roots := [Root | _]} = recorded:term("slot_store_" ++ Name),
    Size = byte_size(Root),
    Found = lists:usort([
        binary_to_integer(Slot)
     ||
        {<<Start:Size/binary, "/slot/", Slot/binary>>, _} <- Entries, Start =:= Root, binary:match(Slot, <<"/">>) =:= nomatch
    ]),
    [Slot || {Slot, Number} <- lists:zip(Found, lists:seq(0, length(Found) - 1)), Slot =:= Number].
