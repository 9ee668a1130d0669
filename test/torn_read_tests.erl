%%% @doc Content that somebody rewrites while it is read. The store of a node deletes a link
%%% and makes it again, and truncates a file and fills it again, so one look misses a link
%%% or sees a file that is empty or cut off. Here each look of a reader is torn once, in
%%% turn, and then each place for good. What is published is always whole.
-module(torn_read_tests).
-include_lib("eunit/include/eunit.hrl").

torn_read_test_() ->
    followed:cases(?MODULE, [
        a_torn_look_at_a_slot_changes_no_event,
        a_torn_look_at_the_process_changes_no_event,
        a_torn_look_at_its_times_changes_no_first_slot,
        a_torn_look_for_the_newest_slot_changes_nothing,
        a_place_that_stays_torn_changes_no_event,
        a_torn_state_is_unreadable_and_not_refused,
        torn_results_are_a_gap_and_come_when_they_are_whole,
        answers_that_a_node_keeps_beside_the_keys_change_no_event,
        keys_that_a_stranger_adds_to_a_message_change_no_event,
        lists_of_several_commitments_tell_the_names_together,
        the_table_of_names_is_bounded
    ]).

-compile([export_all, nowarn_export_all]).

-define(KINDS, [missing, empty, cut]).

a_torn_look_at_a_slot_changes_no_event(Store) ->
    {Id, Cache, Client} = reader(Store),
    {ok, Process} = dev_websocket_process:find(Cache, Id),
    Looks = looks(Store, fun() -> published(Store, Cache, Process, Client, 0) end),
    %% The listing and the reading of two messages, and all around them.
    ?assert(length(Looks) > 100),
    Cases = [{Number, Kind} || Number <- lists:seq(1, length(Looks)), Kind <- ?KINDS],
    lists:foldl(
        fun({Number, Kind}, Slot) ->
            _ = compute(Store, Id, Slot),
            Whole = events(Cache, Process, Slot),
            tear_one(Store, Number, Kind),
            ?assertEqual({Number, Kind, Whole}, {Number, Kind, read_on(Store, Cache, Process, Client, Slot)}),
            Slot + 1
        end,
        1,
        Cases
    ).

a_torn_look_at_the_process_changes_no_event(Store) ->
    {Id, Cache, Client} = reader(Store),
    Looks = looks(Store, fun() -> {ok, _} = dev_websocket_process:find(Cache, Id) end),
    {ok, Process} = dev_websocket_process:find(Cache, Id),
    _ = published(Store, Cache, Process, Client, 0),
    lists:foldl(
        fun({Number, Kind}, Slot) ->
            _ = compute(Store, Id, Slot),
            Whole = events(Cache, Process, Slot),
            tear_one(Store, Number, Kind),
            %% A process that was found is the right one, and stays.
            Found = until_found(Cache, Id),
            ?assertEqual({Number, Kind, Process}, {Number, Kind, Found}),
            stand_in:no_tear(Store),
            ?assertEqual(Whole, read_on(Store, Cache, Found, Client, Slot)),
            Slot + 1
        end,
        1,
        [{Number, Kind} || Number <- lists:seq(1, length(Looks)), Kind <- ?KINDS]
    ).

a_torn_look_at_its_times_changes_no_first_slot(Store) ->
    {Id, Cache, _} = reader(Store),
    At = erlang:system_time(millisecond),
    _ = stand_in:schedule(Store, Id, 0, #{timestamp => At}),
    Looks = looks(Store, fun() -> dev_websocket_process:scheduled_at(Cache, Id, 0) end),
    [
        begin
            tear_one(Store, Number, Kind),
            Time = try dev_websocket_process:scheduled_at(Cache, Id, 0)
            catch error:{not_whole, _} -> again
            end,
            %% The link of the assignment: a slot that nobody has scheduled.
            ?assert(lists:member(Time, [At, again]) orelse (Time =:= 0 andalso is_assignment(lists:nth(Number, Looks))))
        end
     ||
        Number <- lists:seq(1, length(Looks)), Kind <- ?KINDS
    ].

a_torn_look_for_the_newest_slot_changes_nothing(Store) ->
    {Id, Cache, _} = reader(Store),
    [_ = compute(Store, Id, Slot) || Slot <- lists:seq(0, 10)],
    Looks = looks(Store, fun() -> dev_websocket_cache:newest_slot(Cache, Id, 0) end),
    [
        begin
            tear_one(Store, Number, missing),
            ?assertEqual({Number, 10}, {Number, dev_websocket_cache:newest_slot(Cache, Id, 0)})
        end
     ||
        Number <- lists:seq(1, length(Looks))
    ].

a_place_that_stays_torn_changes_no_event(Store) ->
    {Id, Cache, Client} = reader(Store),
    {ok, Process} = dev_websocket_process:find(Cache, Id),
    _ = compute(Store, Id, 0),
    Places = fun(Slot) -> once(looks(Store, fun() -> events(Cache, Process, Slot) end)) end,
    Count = length(Places(0)),
    ?assert(Count > 50),
    _ = read_on(Store, Cache, Process, Client, 0),
    lists:foldl(
        fun({Number, Kind}, Slot) ->
            _ = compute(Store, Id, Slot),
            Whole = events(Cache, Process, Slot),
            Place = lists:nth(Number, Places(Slot)),
            tear_place(Store, Place, Kind),
            Published = read_on(Store, Cache, Process, Client, Slot),
            ?assertEqual({Place, Kind, without_signers(Whole)}, {Place, Kind, without_signers(Published)}),
            %% Only the signatures are no part of a content id.
            _ = Published =:= Whole orelse ?assertMatch({_, {match, _}}, {Place, re:run(Place, "/commitments$|^.{43}/.{43}$")}),
            Slot + 1
        end,
        1,
        [{Number, Kind} || Number <- lists:seq(1, Count), Kind <- ?KINDS]
    ).

a_torn_state_is_unreadable_and_not_refused(Store) ->
    {Id, Cache, _} = reader(Store),
    {ok, Process} = dev_websocket_process:find(Cache, Id),
    State = stand_in:compute(Store, Id, 0, results()),
    [
        begin
            Place = <<State/binary, "/", Key/binary>>,
            tear_place(Store, Place, missing),
            ?assertEqual({Key, {unreadable, 0, not_readable}}, {Key, element(1, dev_websocket_tail:read(Cache, Id, Process))})
        end
     ||
        Key <- [
            <<"at-slot">>, <<"process+link">>, <<"results+link">>, <<"device-stack+link">>,
            <<"module+link">>, <<"scheduler">>, <<"authority">>
        ]
    ],
    stand_in:no_tear(Store),
    ?assertMatch({caught_up, _}, dev_websocket_tail:read(Cache, Id, Process)).

%% A stranger makes them by a request of any message, such as the results of a slot.
answers_that_a_node_keeps_beside_the_keys_change_no_event(Store) ->
    {Id, Cache, _Client} = reader(Store),
    {ok, Process} = dev_websocket_process:find(Cache, Id),
    Balances = #{stand_in:id() => <<"1">>, stand_in:id() => <<"2">>},
    Results = results(),
    lists:foldl(
        fun({Output, Added}, Slot) ->
            Given = Results#{<<"output">> => Output},
            _ = stand_in:compute(Store, Id, Slot, Given),
            Whole = events(Cache, Process, Slot),
            #{<<"outbox">> := Outbox} = Given,
            Messages = [Given, Output, Outbox | Outbox],
            Content = stand_in:write(Store, #{<<"x">> => <<"y">>}),
            [
                stand_in:overwrite(Store, <<(stand_in:message_id(Message))/binary, "/", (stand_in:id())/binary>>, Entry)
             ||
                Message <- Messages, Entry <- lists:sublist([{value, <<"answer">>}, {link, Content}], Added)
            ],
            ?assertEqual(Whole, events(Cache, Process, Slot)),
            Slot + 1
        end,
        0,
        [{#{<<"body">> => <<"plain">>}, 1}, {#{<<"body">> => <<"both">>}, 2}, {Balances, 1}]
    ).

%% The node writes them at the place of the message, with the commitment that lists the keys of
%% the message itself. Seen after `/<results>/set&<key>=..' with `cache-control: always'.
keys_that_a_stranger_adds_to_a_message_change_no_event(Store) ->
    {Id, Cache, _Client} = reader(Store),
    {ok, Process} = dev_websocket_process:find(Cache, Id),
    #{<<"output">> := Output, <<"outbox">> := Outbox} = Results = results(),
    State = stand_in:compute(Store, Id, 0, Results),
    Whole = events(Cache, Process, 0),
    Places = [State | [stand_in:message_id(Message) || Message <- [Results, Output, Outbox | Outbox]]],
    Added = [<<"accept-bundle">>, <<"host">>, <<"a-key">>, stand_in:id()],
    [add_keys(Store, Place, Added) || Place <- Places],
    ?assertEqual(Whole, events(Cache, Process, 0)),
    %% A text where a link is, and a list that leaves keys out, as after `/set&outbox=..'.
    [
        begin
            stand_in:overwrite(Store, <<(stand_in:message_id(Results))/binary, "/outbox">>, {value, <<"FORGED">>}),
            [commit(Store, Place, Place, []) || Place <- Places],
            ?assertEqual(Whole, events(Cache, Process, 0))
        end
     || _ <- [again, and_again]
    ].

%% No message of these names was whole before, so the lists are all there is.
lists_of_several_commitments_tell_the_names_together(Store) ->
    {Id, Cache, _Client} = reader(Store),
    {ok, Process} = dev_websocket_process:find(Cache, Id),
    New = fun() -> string:lowercase(stand_in:id()) end,
    [A, B, C] = [<<"n-", (New())/binary>> || _ <- "abc"],
    Output = #{A => <<"1">>, B => <<"2">>, C => <<"3">>},
    Results = (results())#{<<"output">> => Output},
    Broken = stand_in:message_id(Output),
    _ = stand_in:compute(Store, Id, 0, Results),
    stand_in:overwrite(Store, <<Broken/binary, "/host">>, {value, <<"FORGED">>}),
    Sign = fun(By, Names) -> stand_in:write(Store, Output#{<<"commitments">> => #{By => #{<<"committed">> => Names}}}) end,
    Broken = Sign(Broken, [A]),
    ?assertError({not_whole, _}, events(Cache, Process, 0)),
    Broken = Sign(stand_in:id(), [B, A]),
    ?assertError({not_whole, _}, events(Cache, Process, 0)),
    Broken = Sign(stand_in:id(), [C]),
    [{#{<<"output">> := Output}, _} | _] = events(Cache, Process, 0).

the_table_of_names_is_bounded(_Store) ->
    Often = #{<<"often-", (stand_in:id())/binary>> => <<>>},
    [ok = dev_websocket_names:keep(Often) || _ <- lists:seq(1, 5)],
    [ok = dev_websocket_names:keep(#{(stand_in:id()) => <<>>, <<"rare">> => <<>>}) || _ <- lists:seq(1, 1000)],
    ?assertEqual(256, ets:info(hb_websocket_names, size)),
    ?assertEqual([{maps:keys(Often), 5}], ets:lookup(hb_websocket_names, maps:keys(Often))),
    Large = maps:from_list([{integer_to_binary(N), <<>>} || N <- lists:seq(1, 65)]),
    Long = #{binary:copy(<<"n">>, 2049) => <<>>},
    [ok = dev_websocket_names:keep(Keys) || Keys <- [Large, Long]],
    ?assertEqual([], [Keys || Keys <- [Large, Long], ets:member(hb_websocket_names, maps:keys(Keys))]).

add_keys(Store, Place, Added) ->
    Keys = stand_in:stored(Store, Place),
    commit(Store, Place, Place, [filename:basename(Name, "+link") || Name <- maps:keys(Keys), Name =/= <<"ao-types">>]),
    Types = [<<"accept-bundle=\"atom\"">> | [Known || #{<<"ao-types">> := Known} <- [Keys]]],
    stand_in:overwrite(Store, <<Place/binary, "/ao-types">>, {value, iolist_to_binary(lists:join(<<", ">>, Types))}),
    [stand_in:overwrite(Store, <<Place/binary, "/", Name/binary>>, {value, <<"FORGED">>}) || Name <- Added].

%% @doc A commitment over these keys.
commit(Store, Place, Id, Names) ->
    Commitment = stand_in:write(Store, #{<<"type">> => <<"hmac-sha256">>, <<"committed">> => Names}),
    stand_in:overwrite(Store, <<Place/binary, "/commitments/", Id/binary>>, {link, Commitment}).

torn_results_are_a_gap_and_come_when_they_are_whole(Store) ->
    Id = stand_in:process(Store, #{}),
    Client = fresh_server:client("process=" ++ binary_to_list(Id)),
    tails_tests:until_followed(Id, 0),
    #{<<"outbox">> := Outbox} = results(),
    List = stand_in:message_id(Outbox),
    Place = <<List/binary, "/2+link">>,
    tear_place(Store, Place, missing),
    _ = stand_in:compute(Store, Id, 0, results()),
    ?assertMatch(
        [#{<<"type">> := <<"gap">>, <<"reason">> := <<"not_cached">>, <<"from_slot">> := 0, <<"to_slot">> := 0}],
        followed:frames(Client, 1)
    ),
    stand_in:no_tear(Store),
    dev_websocket:hint(Id),
    [#{<<"data">> := #{<<"outbox-count">> := 2}}] = followed:results(Client, [0]).

%%% Helpers.

%% @doc A process whose slots only the test reads, and a subscriber of everything.
reader(Store) ->
    Id = stand_in:process(Store, #{}),
    {ok, Cache} = dev_websocket_cache:open(stand_in:options(Store)),
    {ok, 0, 0, []} = hb_websocket_nif:set_slot_mark(Id, 0),
    {Id, Cache, fresh_server:client("topic=*")}.

results() ->
    #{
        <<"output">> => #{<<"body">> => <<"moved 7">>, <<"n">> => 7},
        <<"data">> => <<"the data of the result">>,
        <<"error">> => #{<<"reason">> => <<"none">>},
        <<"outbox">> => [
            #{<<"action">> => <<"a">>, <<"quantity">> => 7, <<"tags">> => [#{<<"name">> => <<"x">>, <<"value">> => <<"y">>}]},
            #{<<"action">> => <<"b">>, <<"target">> => <<"alice">>, <<"data">> => <<"text">>}
        ]
    }.

compute(#{<<"table">> := _} = Store, Id, Slot) ->
    #{address := Node} = stand_in:options(Store),
    %% The node signs, so the sender is a key of the message.
    _ = stand_in:schedule(Store, Id, Slot, #{signer => Node, <<"from-process">> => sender()}),
    stand_in:compute(Store, Id, Slot, results()).

sender() -> binary:copy(<<"s">>, 43).

%% @doc The events of a slot, from an untorn store.
events(Cache, Process, Slot) ->
    {ok, #{results := Results} = Found} = dev_websocket_process:slot(Cache, Process, Slot),
    Facts = maps:merge(Found, dev_websocket_process:facts(Cache, Found)),
    {#{<<"outbox">> := Lazy} = Wanted, _} = dev_websocket_whole:load(Cache, dev_websocket_process:wanted(Results), 1_000_000),
    Outbox = dev_websocket_process:outbox(Lazy),
    2 = length(Outbox),
    Events = [
        dev_websocket_process:result_event(Facts, Wanted, 2, 1_000)
        | [dev_websocket_process:message_event(Facts, Key, Message, 1_000) || {Key, Message} <- Outbox]
    ],
    [{Data, maps:get(assignment, Provenance)} || {Data, Provenance} <- Events].

published(Store, Cache, #{id := Id} = Process, Client, Slot) ->
    _ = compute(Store, Id, Slot),
    read_on(Store, Cache, Process, Client, Slot).

%% @doc Read until the slot is published; its events as the subscriber got them. What stays
%% torn is mended after five readings.
read_on(Store, Cache, Process, Client, Slot) -> read_on(Store, Cache, Process, Client, Slot, 5).

read_on(Store, Cache, #{id := Id} = Process, Client, Slot, Left) ->
    Next = Slot + 1,
    _ = Left =:= 0 andalso stand_in:no_tear(Store),
    {_, _} = dev_websocket_tail:read(Cache, Id, Process),
    case hb_websocket_nif:slot_mark(Id) of
        {ok, Next, 0, []} ->
            stand_in:no_tear(Store),
            [#{<<"data">> := Result} = First | _] = Frames = followed:frames(Client, 1),
            Messages = [ws_client:recv_json(Client) || _ <- lists:seq(1, maps:get(<<"outbox-count">>, Result))],
            ?assertEqual(Slot, maps:get(<<"slot">>, First)),
            [{Data, maps:get(<<"assignment">>, Frame, none)} || #{<<"data">> := Data} = Frame <- Frames ++ Messages];
        {ok, Slot, _, []} ->
            read_on(Store, Cache, Process, Client, Slot, Left - 1)
    end.

without_signers(Events) ->
    [maps:remove(<<"sender">>, Data) || {Data, _} <- Events].

until_found(Cache, Id) ->
    case dev_websocket_log:safely(test, fun() -> dev_websocket_process:find(Cache, Id) end, torn) of
        {ok, Process} -> Process;
        _ -> until_found(Cache, Id)
    end.

%% @doc The paths at which a call looks, in order.
looks(Store, Call) ->
    Self = self(),
    stand_in:tear(Store, fun(Path, Entry) -> Self ! {look, Path}, Entry end),
    _ = Call(),
    stand_in:no_tear(Store),
    flush().

flush() ->
    receive {look, Path} -> [Path | flush()]
    after 0 -> []
    end.

%% @doc Tear the look with this number.
tear_one(Store, Number, Kind) ->
    Count = counters:new(1, []),
    stand_in:tear(Store, fun(_Path, Entry) ->
        ok = counters:add(Count, 1, 1),
        case counters:get(Count, 1) of
            Number -> torn(Kind, Entry);
            _ -> Entry
        end
    end).

tear_place(Store, Place, Kind) ->
    stand_in:tear(Store, fun(Path, Entry) when Path =:= Place -> torn(Kind, Entry); (_, Entry) -> Entry end).

once([Place | Rest]) -> [Place | once([Other || Other <- Rest, Other =/= Place])];
once([]) -> [].

%% Folders are never made again.
torn(_Kind, group) -> group;
torn(missing, _Entry) -> none;
torn(empty, {value, _}) -> {value, <<>>};
torn(cut, {value, Value}) -> {value, binary:part(Value, 0, byte_size(Value) div 2)};
torn(_Kind, {link, _} = Link) -> Link.

is_assignment(<<"assignments/", _/binary>>) -> true;
is_assignment(_) -> false.
