%%% @doc Whole VMs, from their start to their end: without the library, with a taken
%%% port, as an embedded system, and halted.
-module(vm_tests).
-include_lib("eunit/include/eunit.hrl").

-define(DEADLINE, 30000).

vm_test_() ->
    [
        {timeout, 600, {atom_to_list(Name), fun() -> ?MODULE:Name() end}}
     ||
        Name <- [
            calls_without_the_library_return_engine_not_loaded,
            a_library_that_cannot_be_loaded_leaves_the_vm_alone,
            a_library_that_arrives_later_is_found,
            an_archive_folder_is_a_place_for_the_library,
            a_taken_port_fails_neither_the_load_nor_the_vm,
            a_setting_that_protects_keeps_a_new_vm_closed,
            the_system_configuration_is_read_before_the_application_is_loaded,
            an_embedded_system_boots_the_server,
            halt_ends_a_busy_vm_cleanly,
            a_vm_that_stops_tells_its_clients,
            a_vm_that_starts_anew_serves_again
        ]
    ].

-compile([export_all, nowarn_export_all]).

calls_without_the_library_return_engine_not_loaded() ->
    vm:with_copy(fun(Ebin, _Library) ->
        vm:with_peer(Ebin, [], fun(Call) ->
            {error, {engine_not_loaded, _}} = Error = Call(hb_websocket_nif, info, []),
            Calls = [
                {hb_websocket_nif, cast, [a]}, {hb_websocket_nif, cast_large, [a]}, {hb_websocket_nif, settings, []},
                {hb_websocket_nif, stats, []}, {hb_websocket_nif, validate, [#{}]}, {hb_websocket_nif, stop, [1]},
                {hb_websocket_nif, listen, [self()]}, {hb_websocket_nif, unlisten, [self()]},
                {hb_websocket_nif, acknowledge, [1]}, {hb_websocket_nif, send, [1, a]},
                {hb_websocket_nif, send_large, [1, a]}, {hb_websocket_nif, connection, [1, 1]},
                {hb_websocket_nif, read_log, []}, {hb_websocket_nif, interface, []}, {hb_websocket_nif, acknowledge_log, []}, {hb_websocket_nif, is_log_read, []},
                {dev_websocket, listen, [self()]}, {dev_websocket, unlisten, [self()]},
                {dev_websocket, send, [1, a]}, {dev_websocket, connection, [1]},
                {hb_websocket_nif, start, [1, #{}]}, {hb_websocket_nif, boot, [1, #{}]}, {hb_websocket_nif, load, []},
                {dev_websocket, info, []}, {dev_websocket, start, [#{}]}, {dev_websocket, stop, []},
                {dev_websocket, config, []}, {dev_websocket, stats, []}
            ],
            [?assertEqual(Error, Call(Module, Name, Arguments)) || {Module, Name, Arguments} <- Calls],
            ?assertEqual({ok, <<"OK">>}, Call(dev_websocket, cast, [#{}, #{}])),
            ?assertMatch(#{exports := _}, Call(dev_websocket, info, [#{}])),
            %% The node's own work goes on, and a caller gets the reason.
            [
                ?assertMatch({error, #{<<"status">> := 503}}, Call(dev_websocket, Key, [#{}, #{}, #{}]))
             ||
                Key <- [info, stats]
            ],
            {Base, Request, Opts} = recorded:call("compute_stack_slot1_loaded"),
            [
                ?assertEqual({Key, {ok, Expected}}, {Key, Call(dev_websocket, Key, [Base, Request, Opts])})
             ||
                {Key, Expected} <- [
                    {init, Base}, {compute, Base}, {normalize, Base}, {snapshot, #{}},
                    {start, Request}, {step, Request}, {response, Request}, {cast, <<"OK">>}
                ]
            ],
            ?assertEqual(ok, Call(application, start, [dev_websocket]))
        end)
    end).

%% Cut off at any place, for another machine, or no library at all.
a_library_that_cannot_be_loaded_leaves_the_vm_alone() ->
    vm:with_copy(fun(Ebin, Library) ->
        {ok, Whole} = file:read_file(Library),
        Size = byte_size(Whole),
        <<Head:18/binary, _Machine:2/binary, Tail/binary>> = Whole,
        Place = filename:join([filename:dirname(Ebin), "priv", "crates", "dev_websocket_nif", "dev_websocket_nif.so"]),
        ok = filelib:ensure_dir(Place),
        Cut = [
            {binary:part(Whole, 0, Length), "is incomplete: " ++ integer_to_list(Length)}
         ||
            Length <- [30, 64, 4096, Size div 2, Size - 1]
        ],
        Others = [
            {<<Head/binary, 16#FFFF:16, Tail/binary>>, "is for another machine"},
            {<<"hello">>, "file too short"}
        ],
        lists:foreach(
            fun({Content, Text}) ->
                ok = file:write_file(Place, Content),
                vm:with_peer(Ebin, [], fun(Call) ->
                    {error, {engine_not_loaded, {_, Reason}}} = Call(dev_websocket, info, []),
                    ?assertNotEqual({nomatch, Text, Reason}, {string:find(Reason, Text), Text, Reason}),
                    ?assertEqual({ok, <<"OK">>}, Call(dev_websocket, cast, [#{}, #{}])),
                    ?assertEqual(ok, Call(application, start, [dev_websocket])),
                    %% The whole file, written later, is found.
                    ok = file:write_file(Place ++ ".new", Whole),
                    ok = file:rename(Place ++ ".new", Place),
                    ?assertEqual(ok, Call(dev_websocket, start, [#{}]))
                end)
            end,
            Cut ++ Others
        )
    end).

a_library_that_arrives_later_is_found() ->
    vm:with_copy(fun(Ebin, Library) ->
        vm:with_peer(Ebin, [], fun(Call) ->
            ?assertMatch({error, {engine_not_loaded, _}}, Call(dev_websocket, info, [])),
            Place = filename:join([filename:dirname(Ebin), "priv", "crates", "dev_websocket_nif", "dev_websocket_nif.so"]),
            ok = filelib:ensure_dir(Place),
            {ok, _} = file:copy(Library, Place),
            ?assertEqual(ok, Call(dev_websocket, start, [#{}])),
            ?assertMatch({ok, #{uri := _}}, Call(dev_websocket, info, []))
        end)
    end).

an_archive_folder_is_a_place_for_the_library() ->
    vm:with_copy(fun(Ebin, Library) ->
        {ok, _} = file:copy(Library, filename:join(Ebin, "dev_websocket_nif.so")),
        vm:with_peer(Ebin, [], fun(Call) ->
            ?assertMatch({ok, #{uri := _}}, Call(dev_websocket, info, []))
        end)
    end).

a_taken_port_fails_neither_the_load_nor_the_vm() ->
    {ok, Taken} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Taken),
    vm:with_peer(vm:ebin(), [{"DEV_WEBSOCKET_PORT", integer_to_list(Port)}], fun(Call) ->
        ?assertEqual({module, dev_websocket}, Call(code, ensure_loaded, [dev_websocket])),
        Address = iolist_to_binary(io_lib:format("127.0.0.1:~b", [Port])),
        ?assertEqual({error, {listen, #{address => Address, reason => eaddrinuse}}}, Call(dev_websocket, info, [])),
        ?assertEqual({ok, <<"OK">>}, Call(dev_websocket, cast, [#{}, #{}])),
        %% Another copy of the device does not try again by itself.
        ok = gen_tcp:close(Taken),
        ?assertEqual({module, dev_websocket}, Call(code, load_file, [dev_websocket])),
        ?assertMatch({error, {listen, _}}, Call(dev_websocket, info, [])),
        ?assertEqual(ok, Call(dev_websocket, start, [#{port => 0}])),
        {ok, #{uri := Uri}} = Call(dev_websocket, info, []),
        {ok, Client} = ws_client:connect(Uri),
        ?assert(ws_client:is_open(Client))
    end).

a_setting_that_protects_keeps_a_new_vm_closed() ->
    {ok, Listener} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Listener),
    ok = gen_tcp:close(Listener),
    Environment = [{"DEV_WEBSOCKET_HOST", "127.0.01"}, {"DEV_WEBSOCKET_PORT", integer_to_list(Port)}],
    vm:with_peer(vm:ebin(), Environment, fun(Call) ->
        ?assertEqual({ok, <<"OK">>}, Call(dev_websocket, cast, [#{}, #{}])),
        {error, {settings, #{host := Expected}}} = Error = Call(dev_websocket, info, []),
        ?assertMatch(<<"an IP address ", _/binary>>, Expected),
        ?assertEqual({error, econnrefused}, gen_tcp:connect("127.0.0.1", Port, [])),
        %% Neither does the application open it, which starts all the same.
        ?assertEqual(ok, Call(application, start, [dev_websocket])),
        ?assertEqual(Error, Call(dev_websocket, info, [])),
        ?assertEqual({error, econnrefused}, gen_tcp:connect("127.0.0.1", Port, [])),
        ?assertEqual(ok, Call(dev_websocket, start, [#{host => "127.0.0.1"}])),
        {ok, #{uri := Uri}} = Call(dev_websocket, info, []),
        {ok, Client} = ws_client:connect(Uri),
        ?assert(ws_client:is_open(Client))
    end).

the_system_configuration_is_read_before_the_application_is_loaded() ->
    vm:in_folder(fun(Folder) ->
        {0, Output} = run(
            ["-pa", vm:ebin(), "-config", configuration(Folder)],
            "undefined = application:get_key(dev_websocket, vsn), {ok, #{uri := Uri}} = dev_websocket:info(), "
            "io:format(\"~s~n\", [Uri]), false = lists:keymember(dev_websocket, 1, application:which_applications()), init:stop()."
        ),
        ?assertMatch({match, _}, re:run(Output, "^ws://configured.example:[0-9]+/ws", [multiline]))
    end).

an_embedded_system_boots_the_server() ->
    vm:in_folder(fun(Folder) ->
        Boot = boot_script(Folder),
        {0, Configured} = run(
            ["-boot", Boot, "-mode", "embedded", "-config", configuration(Folder)],
            "{ok, #{uri := Uri}} = dev_websocket:info(), io:format(\"~s~n\", [Uri]), init:stop()."
        ),
        ?assertMatch({match, _}, re:run(Configured, "^ws://configured.example:[0-9]+/ws", [multiline])),
        {0, Output} = run(
            ["-boot", Boot, "-mode", "embedded"],
            "embedded = code:get_mode(), {ok, #{uri := Uri}} = dev_websocket:info(), {ok, _} = dev_websocket:cast(a, b), "
            "io:format(\"~s~n\", [Uri]), init:stop()."
        ),
        ?assertMatch({match, _}, re:run(Output, "^ws://127.0.0.1:[0-9]+/ws", [multiline]))
    end).

halt_ends_a_busy_vm_cleanly() ->
    Cast =
        "{ok, #{uri := Uri}} = dev_websocket:info(), "
        "[spawn(fun() -> (fun F() -> dev_websocket:cast(#{<<\"topic\">> => <<\"t\">>}, #{}), F() end)() end) || _ <- \"1234\"], "
        "#{port := Port} = uri_string:parse(binary_to_list(Uri)), "
        "{ok, S} = gen_tcp:connect(\"127.0.0.1\", Port, [binary, {active, true}]), "
        "gen_tcp:send(S, \"GET /ws?topic=t HTTP/1.1\\r\\nHost: localhost\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
        "Sec-WebSocket-Version: 13\\r\\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\n\\r\\n\"), "
        "receive {tcp, S, <<\"HTTP/1.1 101\", _/binary>>} -> ok end, ",
    ?assertEqual({0, <<>>}, run(["-pa", vm:ebin()], Cast ++ "halt().")),
    ?assertEqual({7, <<>>}, run(["-pa", vm:ebin()], Cast ++ "halt(7, [{flush, false}]).")).

a_vm_that_stops_tells_its_clients() ->
    {ok, Peer, _} = vm:start_peer(vm:ebin(), []),
    Call = fun(Module, Name, Arguments) -> peer:call(Peer, Module, Name, Arguments) end,
    ok = Call(application, start, [dev_websocket]),
    {ok, #{uri := Uri}} = Call(dev_websocket, info, []),
    {ok, Client} = ws_client:connect(Uri),
    #{<<"type">> := <<"connection_established">>} = ws_client:recv_json(Client),
    ok = Call(init, stop, []),
    ?assertMatch({close, 1001, _}, ws_client:recv(Client)),
    ?assertEqual(closed, ws_client:recv(Client)).

%% The library stays over that, and knows that it was stopped.
a_vm_that_starts_anew_serves_again() ->
    vm:in_folder(fun(Folder) ->
        Mark = filename:join(Folder, "mark"),
        ok = filelib:ensure_dir(Mark),
        {Status, Output} = run(
            ["-pa", vm:ebin()],
            "ok = application:load(dev_websocket), {ok, #{uri := Uri}} = dev_websocket:info(), io:format(\"~s~n\", [Uri]), "
            "case file:write_file(\"" ++ Mark ++ "\", <<>>, [exclusive]) of "
            "ok -> init:restart(); {error, eexist} -> init:stop() end."
        ),
        ?assertMatch({0, [<<"ws://", First/binary>>, <<"ws://", Second/binary>>]} when First =/= Second,
            {Status, string:lexemes(Output, "\n")})
    end).

%%% Helpers.

%% @doc The exit status and the output of a VM.
run(Arguments, Code) ->
    Erl = filename:join([code:root_dir(), "bin", "erl"]),
    Port = open_port({spawn_executable, Erl}, [
        {args, Arguments ++ ["-noshell", "-eval", Code]},
        {env, maps:to_list(vm:environment())},
        exit_status, binary, stderr_to_stdout, hide
    ]),
    output(Port, <<>>).

output(Port, Output) ->
    receive
        {Port, {data, Data}} -> output(Port, <<Output/binary, Data/binary>>);
        {Port, {exit_status, Status}} -> {Status, Output}
    after ?DEADLINE ->
        error({no_end, Output})
    end.

%% @doc A configuration of a system with a setting of the device.
configuration(Folder) ->
    File = filename:join(Folder, "sys.config"),
    ok = filelib:ensure_dir(File),
    ok = file:write_file(File, "[{dev_websocket, [{public_host, \"configured.example\"}]}]."),
    File.

%% @doc A boot script for kernel, stdlib and this application.
boot_script(Folder) ->
    Applications = [
        begin
            _ = application:load(Application),
            {ok, Version} = application:get_key(Application, vsn),
            {Application, Version}
        end
     ||
        Application <- [kernel, stdlib, dev_websocket]
    ],
    Release = {release, {"test", "1"}, {erts, erlang:system_info(version)}, Applications},
    Boot = filename:join(Folder, "test"),
    ok = file:write_file(Boot ++ ".rel", io_lib:format("~p.~n", [Release])),
    Options = [{path, [vm:ebin()]}, {outdir, Folder}, local, silent, no_warn_sasl],
    {ok, _, _} = systools:make_script(Boot, Options),
    Boot.
