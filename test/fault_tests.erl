%%% @doc Processes that are killed in the middle of a call, and very many that start and stop
%%% the engine at once. The engine goes on, and no thread or process is left behind.
-module(fault_tests).
-include_lib("eunit/include/eunit.hrl").

-define(DEADLINE, 60000).
%% So often one process of each kind is killed.
-define(ROUNDS, 30).
-define(COMMANDS, 1000).

fault_test_() ->
    fresh_server:each(?MODULE, 1200, #{max_inbound_rate => 0}, [
        processes_killed_while_they_publish_take_nothing_with_them,
        processes_killed_while_they_start_and_stop_leave_an_engine_that_does_both,
        listeners_killed_at_any_time_make_room_for_the_next,
        processes_killed_while_they_send_leave_the_connection_in_order,
        a_thousand_starts_and_stops_at_once_are_all_answered
    ]).

-compile([export_all, nowarn_export_all]).

processes_killed_while_they_publish_take_nothing_with_them() ->
    Client = fresh_server:client("topic=*"),
    at_rest(fun() ->
        Large = #{<<"data">> => lists:seq(1, 5000)},
        Process = integer_to_binary(erlang:unique_integer([positive])),
        kill([
            fun() -> dev_websocket:cast(#{<<"topic">> => <<"killed">>}, #{}) end,
            fun() -> hb_websocket_nif:cast_large(Large) end,
            fun() -> hb_websocket_nif:publish(Large, #{path => <<"/p">>}) end,
            fun() ->
                {ok, Slot, Part, _} = hb_websocket_nif:set_slot_mark(Process, 0),
                hb_websocket_nif:publish_slot_large(Process, Slot, Part, [{Large, #{}}], true)
            end,
            fun() -> dev_websocket:info() end,
            fun() -> dev_websocket:stats() end
        ])
    end),
    %% Every number that was given is a message, or was told as missing.
    ?assertMatch({ok, <<"OK">>}, dev_websocket:cast(#{<<"topic">> => <<"last">>}, #{})),
    contiguous(Client, 1),
    settle(fun() ->
        count(<<"deliveries_expected">>) =:=
            lists:sum([count(Name) || Name <- [<<"deliveries">>, <<"dropped_slow">>, <<"dropped_disconnected">>]])
    end).

processes_killed_while_they_start_and_stop_leave_an_engine_that_does_both() ->
    at_rest(fun() ->
        kill([
            fun() -> dev_websocket:start(#{max_inbound_rate => 7}) end,
            fun() -> dev_websocket:stop() end,
            fun() -> answered(fun(Ref) -> hb_websocket_nif:start(Ref, #{port => 0, host => "127.0.0.1"}) end) end,
            fun() -> answered(fun(Ref) -> hb_websocket_nif:boot(Ref, #{port => 0, host => "127.0.0.1"}) end) end,
            fun() -> dev_websocket:cast(#{<<"topic">> => <<"killed">>}, #{}) end
        ]),
        ok = dev_websocket:stop(),
        ok = dev_websocket:start(#{})
    end),
    serves().

listeners_killed_at_any_time_make_room_for_the_next() ->
    Client = fresh_server:client("topic=t"),
    at_rest(fun() ->
        kill([
            fun() -> dev_websocket:listen(self()) end,
            fun() -> dev_websocket:unlisten(self()) end,
            fun() ->
                _ = dev_websocket:listen(self()),
                ws_client:send_json(Client, #{<<"type">> => <<"send">>, <<"data">> => <<"killed">>}),
                receive _ -> ok after 0 -> ok end
            end
        ]),
        %% The engine hears of the last of them in a moment.
        settle(fun() -> dev_websocket:listen(self()) =:= ok end),
        ok = dev_websocket:unlisten(self())
    end),
    ok = dev_websocket:listen(self()),
    ws_client:send_json(Client, #{<<"type">> => <<"send">>, <<"data">> => <<"heard">>}),
    heard(),
    ok = dev_websocket:unlisten(self()).

processes_killed_while_they_send_leave_the_connection_in_order() ->
    Client = fresh_server:client("topic=t"),
    ok = dev_websocket:listen(self()),
    ws_client:send_json(Client, #{<<"type">> => <<"send">>, <<"data">> => <<"heard">>}),
    Connection = heard(),
    ok = dev_websocket:unlisten(self()),
    at_rest(fun() ->
        kill([
            fun() -> dev_websocket:send(Connection, {text, <<"killed">>}) end,
            fun() -> hb_websocket_nif:send_large(Connection, lists:seq(1, 1000)) end,
            fun() -> dev_websocket:connection(Connection) end
        ])
    end),
    ws_client:send_json(Client, #{<<"type">> => <<"ping">>, <<"id">> => <<"last">>}),
    until_last(Client).

a_thousand_starts_and_stops_at_once_are_all_answered() ->
    at_rest(fun() ->
        Test = self(),
        Commands = [
            case N rem 4 of
                0 -> fun() -> dev_websocket:stop() end;
                1 -> fun() -> dev_websocket:start(#{}) end;
                2 -> fun() -> dev_websocket:start(#{max_inbound_rate => N}) end;
                %% Another number of threads is another server.
                3 -> fun() -> dev_websocket:start(#{shards => 1 + N rem 3}) end
            end
         ||
            N <- lists:seq(1, ?COMMANDS)
        ],
        [spawn_link(fun() -> Test ! {answer, Command()} end) || Command <- Commands],
        Answers = [receive {answer, Answer} -> Answer after ?DEADLINE -> missing end || _ <- Commands],
        ?assertEqual([], [Answer || Answer <- Answers, Answer =/= ok]),
        ok = dev_websocket:stop(),
        ok = dev_websocket:start(#{})
    end),
    serves().

%%% Helpers.

%% @doc Processes that do these over and over, each of them killed, at one moment or
%% another.
kill(Actions) ->
    [kill_each(Actions) || _ <- lists:seq(1, ?ROUNDS)].

kill_each(Actions) ->
    Processes = [spawn_monitor(fun() -> loop(Action) end) || Action <- Actions],
    lists:foreach(
        fun({Process, Monitor}) ->
            [erlang:yield() || _ <- lists:seq(1, rand:uniform(4) - 1)],
            exit(Process, kill),
            receive {'DOWN', Monitor, process, Process, killed} -> ok end
        end,
        Processes
    ).

loop(Action) ->
    _ = Action(),
    loop(Action).

answered(Command) ->
    Ref = make_ref(),
    ok = Command(Ref),
    receive {Ref, Answer} -> Answer end.

%% @doc Nothing more runs after something than before it, in Erlang or beside it.
at_rest(Act) ->
    %% The first call starts the supervisor and its children.
    _ = dev_websocket:stats(),
    Before = running(),
    Act(),
    settle(fun() -> running() =:= Before end, fun() -> {Before, running()} end),
    ?assertEqual(0, count(<<"panics">>)).

%% @doc Processes of Erlang, and threads where the system tells them.
running() ->
    Threads =
        case file:list_dir("/proc/" ++ os:getpid() ++ "/task") of
            {ok, Found} -> length(Found);
            {error, _} -> unknown
        end,
    {length(erlang:processes()), Threads}.

settle(Holds) ->
    settle(Holds, fun() -> not_settled end).

settle(Holds, Show) ->
    settle(Holds, Show, erlang:monotonic_time(millisecond) + ?DEADLINE).

%% Looks again and again: no event tells that a thread has ended or that a counter has risen.
settle(Holds, Show, Deadline) ->
    case Holds() of
        true ->
            ok;
        false ->
            ?assert(erlang:monotonic_time(millisecond) < Deadline, Show()),
            timer:sleep(5),
            settle(Holds, Show, Deadline)
    end.

serves() ->
    Client = fresh_server:client("topic=t"),
    dev_websocket:cast(#{<<"topic">> => <<"t">>}, #{}),
    ?assertMatch([_], ws_client:messages(Client, 1)).

contiguous(Client, Next) ->
    case ws_client:recv_json(Client) of
        #{<<"type">> := <<"gap">>, <<"after">> := After, <<"next">> := Seq} when After =:= Next - 1 ->
            contiguous(Client, Seq);
        #{<<"seq">> := Next, <<"topic">> := <<"last">>} ->
            ok;
        #{<<"type">> := <<"message">>, <<"seq">> := Next} ->
            contiguous(Client, Next + 1)
    end.

%% @doc Which connection the message of the test comes from.
heard() ->
    receive
        {dev_websocket, Connection, {text, <<"heard">>}} -> Connection;
        {dev_websocket, _, {text, <<"killed">>}} -> heard()
    after ?DEADLINE -> error(not_heard)
    end.

until_last(Client) ->
    case ws_client:recv_json(Client) of
        #{<<"type">> := <<"direct">>} -> until_last(Client);
        #{<<"type">> := <<"pong">>, <<"id">> := <<"last">>} -> ok
    end.

count(Name) ->
    maps:get(Name, hb_websocket_nif:stats()).
