%%% @doc The boundary: what the native functions take, and that loading, reloading
%%% and ending a VM in any order leaves one engine or none, never a crash.
-module(hb_websocket_nif_tests).
-include_lib("eunit/include/eunit.hrl").

-define(DEADLINE, 30000).

boundary_test_() ->
    {foreach, fun start/0, fun stop/1, [
        {timeout, 120, {atom_to_list(Name), fun() -> ?MODULE:Name() end}}
     ||
        Name <- [
            every_function_takes_any_term,
            commands_answer_with_their_reference,
            a_command_of_a_dead_process_still_runs,
            commands_of_many_processes_are_all_answered,
            the_inline_budget_is_exact,
            the_whole_budget_is_that_of_the_largest_message,
            a_boot_never_restarts_nor_resurrects,
            counts_and_settings_have_their_kinds,
            a_reload_keeps_the_server_and_its_clients,
            a_purge_and_a_load_find_the_same_server,
            the_device_can_be_reloaded,
            copies_of_the_device_share_one_server,
            the_application_stops_and_starts_the_server
        ]
    ]}.

vm_test_() ->
    [
        {timeout, 120, {atom_to_list(Name), fun() -> ?MODULE:Name() end}}
     ||
        Name <- [
            without_the_library_every_call_says_so,
            a_library_that_arrives_later_is_found,
            an_archive_folder_is_a_place_for_the_library,
            a_packaged_device_brings_its_engine,
            a_taken_port_fails_neither_the_load_nor_the_vm,
            an_embedded_system_boots_the_server,
            halt_ends_a_busy_vm_cleanly,
            a_vm_that_stops_tells_its_clients
        ]
    ].

-compile([export_all, nowarn_export_all]).

start() ->
    ok = dev_websocket:stop(),
    ok = dev_websocket:start(#{}).

stop(_) ->
    dev_websocket:stop().

%%% Arguments.

every_function_takes_any_term() ->
    Terms = [
        a, 'ключ', 1, -1, 1 bsl 64, 1.5, <<>>, <<"port">>, <<255>>, <<1:7>>, [], "text", [1 | 2], [a, b], [{a, 1}], {}, {a, b},
        #{}, #{a => 1}, #{<<"port">> => b}, #{1 => 2}, self(), make_ref(), hd(erlang:ports()), fun() -> ok end, fun lists:map/2,
        deep(200, 1), lists:seq(1, 2000), maps:from_list([{N, N} || N <- lists:seq(1, 2000)])
    ],
    Calls = [{cast, 1}, {cast_large, 1}, {validate, 1}, {stop, 1}, {boot, 2}, {start, 2}, {info, 0}, {settings, 0}, {stats, 0}],
    ?assertEqual(
        lists:sort(Calls ++ [{load, 0}, {application, 0}, {module_info, 0}, {module_info, 1}]),
        lists:sort(hb_websocket_nif:module_info(exports))
    ),
    lists:foreach(
        fun
            ({Name, 0}) ->
                hb_websocket_nif:Name();
            ({Name, 1}) ->
                [hb_websocket_nif:Name(Term) || Term <- Terms];
            ({Name, 2}) ->
                [hb_websocket_nif:Name(First, Second) || First <- Terms, Second <- Terms]
        end,
        Calls
    ),
    ?assertEqual(0, maps:get(<<"faults">>, hb_websocket_nif:stats())),
    %% Whatever the last of them said, a server can be started; its answer is the last.
    Last = make_ref(),
    ok = hb_websocket_nif:start(Last, #{host => "127.0.0.1", port => 0}),
    ?assertEqual(ok, flush_until(Last)),
    ?assertMatch({ok, _, _}, hb_websocket_nif:info()).

commands_answer_with_their_reference() ->
    Ref = {any, #{term => [make_ref()]}},
    ?assertEqual(ok, hb_websocket_nif:stop(Ref)),
    ?assertEqual(ok, answer(Ref)),
    ?assertEqual(ok, hb_websocket_nif:start(Ref, #{port => 0})),
    ?assertEqual(ok, answer(Ref)),
    ?assertEqual({error, {unknown_setting, no_such}}, hb_websocket_nif:start(Ref, #{no_such => 1})),
    ?assertEqual({error, settings_not_a_map}, hb_websocket_nif:boot(Ref, [])),
    ?assertMatch({error, {invalid_setting, <<"port">>, <<_/binary>>}}, hb_websocket_nif:validate(#{<<"port">> => x})),
    ?assertEqual(ok, hb_websocket_nif:validate(#{})).

a_command_of_a_dead_process_still_runs() ->
    {_, Monitor} = spawn_monitor(fun() -> hb_websocket_nif:stop(none) end),
    receive {'DOWN', Monitor, process, _, normal} -> ok end,
    %% Commands run in their order, so this one's answer comes after.
    ok = hb_websocket_nif:boot(mine, #{}),
    ?assertEqual({error, stopped}, answer(mine)).

commands_of_many_processes_are_all_answered() ->
    Test = self(),
    Commands = [
        fun() -> dev_websocket:start(#{max_inbound_rate => N}) end
     || N <- lists:seq(1, 20)
    ] ++ [fun dev_websocket:info/0 || _ <- lists:seq(1, 20)],
    [spawn(fun() -> Test ! {answer, Command()} end) || Command <- Commands],
    Answers = [receive {answer, Answer} -> Answer after ?DEADLINE -> missing end || _ <- Commands],
    ?assertEqual([], [Answer || Answer <- Answers, Answer =/= ok, element(1, Answer) =/= ok]),
    ?assertMatch({ok, _, _}, hb_websocket_nif:info()).

%%% Budgets.

the_inline_budget_is_exact() ->
    Text = fun(Bytes) -> binary:copy(<<"a">>, Bytes) end,
    Is = fun(Expected, Term) -> ?assertEqual(Expected, hb_websocket_nif:cast(Term)) end,
    Is(ok, Text(65535)),
    Is(ok, Text(65536)),
    Is(large, Text(65537)),
    Is(ok, #{<<"key">> => Text(65533)}),
    Is(large, #{<<"key">> => Text(65534)}),
    %% The list itself is one value.
    Is(ok, lists:duplicate(1022, 1)),
    Is(ok, lists:duplicate(1023, 1)),
    Is(large, lists:duplicate(1024, 1)),
    Is(ok, list_to_tuple(lists:duplicate(1023, 1))),
    Is(large, list_to_tuple(lists:duplicate(1024, 1))),
    Is(ok, maps:from_list([{N, 1} || N <- lists:seq(1, 1023)])),
    Is(large, maps:from_list([{N, 1} || N <- lists:seq(1, 1024)])),
    Is(ok, [{list_to_binary(integer_to_list(N)), 1} || N <- lists:seq(1, 1023)]),
    Is(large, [{list_to_binary(integer_to_list(N)), 1} || N <- lists:seq(1, 1024)]),
    %% What never leaves the node is not read.
    Is(ok, #{<<"commitments">> => Text(10000000), <<"priv">> => lists:seq(1, 100000), <<"a">> => 1}),
    ok = dev_websocket:start(#{commitments => true}),
    Is(large, #{<<"commitments">> => Text(10000000), <<"a">> => 1}).

the_whole_budget_is_that_of_the_largest_message() ->
    ok = dev_websocket:start(#{max_message_bytes => 100000}),
    Is = fun(Expected, Term) -> ?assertEqual(Expected, hb_websocket_nif:cast_large(Term)) end,
    %% A list of n digits takes 2n + 1 bytes.
    Is(ok, lists:duplicate(49999, 1)),
    Is({dropped, too_large}, lists:duplicate(50000, 1)),
    Is(ok, binary:copy(<<"a">>, 99998)),
    Is({dropped, too_large}, binary:copy(<<"a">>, 99999)),
    %% The first 50,000 of many items are walked, which takes a fraction of walking all.
    Huge = lists:seq(1, 5000000),
    Least = fun(Run) -> lists:min([element(1, timer:tc(Run)) || _ <- lists:seq(1, 5)]) end,
    Is({dropped, too_large}, Huge),
    ?assert(Least(fun() -> hb_websocket_nif:cast_large(Huge) end) < Least(fun() -> lists:sum(Huge) end)),
    Is({dropped, too_large}, erlang:make_tuple(16000000, 1)),
    Is({dropped, too_large}, [a | lists:duplicate(1000000, b)]).

%%% One engine.

a_boot_never_restarts_nor_resurrects() ->
    {ok, Uri, _} = hb_websocket_nif:info(),
    ok = hb_websocket_nif:boot(1, #{host => "127.0.0.1", port => 0}),
    ?assertEqual(ok, answer(1)),
    ?assertMatch({ok, Uri, _}, hb_websocket_nif:info()),
    ok = dev_websocket:stop(),
    ok = hb_websocket_nif:boot(2, #{host => "127.0.0.1", port => 0}),
    ?assertEqual({error, stopped}, answer(2)),
    ?assertEqual({error, stopped}, hb_websocket_nif:info()).

counts_and_settings_have_their_kinds() ->
    Check = fun() ->
        Stats = hb_websocket_nif:stats(),
        ?assert(maps:size(Stats) > 10),
        [?assert(is_binary(Name) andalso is_integer(Count) andalso Count >= 0) || {Name, Count} <- maps:to_list(Stats)],
        Settings = hb_websocket_nif:settings(),
        ?assert(maps:size(Settings) > 10),
        [?assert(is_atom(Name)) || Name <- maps:keys(Settings)],
        ?assertEqual(ok, hb_websocket_nif:validate(Settings))
    end,
    Check(),
    Running = hb_websocket_nif:settings(),
    ok = dev_websocket:start(#{max_inbound_rate => 1234}),
    ?assertEqual(Running#{max_inbound_rate := 1234}, hb_websocket_nif:settings()),
    ok = dev_websocket:stop(),
    Check(),
    ?assertMatch(#{max_inbound_rate := 50, port := 8735}, hb_websocket_nif:settings()).

a_reload_keeps_the_server_and_its_clients() ->
    {Info, Client} = serve(),
    %% The library cannot change hands, so the code that works stays.
    quietly(fun() -> ?assertEqual({error, on_load_failure}, code:load_file(hb_websocket_nif)) end),
    ?assertEqual(ok, hb_websocket_nif:load()),
    still_serves(Info, Client).

a_purge_and_a_load_find_the_same_server() ->
    {Info, Client} = serve(),
    lists:foreach(
        fun(_) ->
            code:purge(hb_websocket_nif),
            true = code:delete(hb_websocket_nif),
            code:purge(hb_websocket_nif),
            false = erlang:module_loaded(hb_websocket_nif),
            ?assertEqual({ok, <<"OK">>}, dev_websocket:cast(#{}, #{})),
            ?assertMatch({module, _}, code:ensure_loaded(hb_websocket_nif)),
            still_serves(Info, Client)
        end,
        lists:seq(1, 5)
    ).

the_device_can_be_reloaded() ->
    {Info, Client} = serve(),
    [
        begin
            code:purge(Module),
            ?assertEqual({module, Module}, code:load_file(Module)),
            still_serves(Info, Client)
        end
     ||
        Module <- [dev_websocket, dev_websocket_engine, dev_websocket_settings]
    ].

%% Newer nodes give each copy of a device generated module names. The root comes
%% first, so its `on_load' finds no helper.
copies_of_the_device_share_one_server() ->
    {Info, Client} = serve(),
    Copies = [copy(Module) || Module <- [dev_websocket, dev_websocket_engine, dev_websocket_settings]],
    [{Copy, _, _} | _] = Copies,
    try
        [{module, Module} = code:load_binary(Module, File, Beam) || {Module, File, Beam} <- Copies],
        ?assertEqual(Info, Copy:info()),
        ?assertEqual({ok, <<"OK">>}, Copy:cast(#{<<"topic">> => <<"t">>, <<"data">> => 7}, #{})),
        ?assertMatch([#{<<"data">> := #{<<"data">> := 7}}], ws_client:messages(Client, 1)),
        still_serves(Info, Client),
        ?assertEqual(ok, Copy:start(#{max_inbound_rate => 77})),
        ?assertMatch(#{max_inbound_rate := 77}, dev_websocket:config()),
        ?assertEqual(ok, Copy:stop()),
        ?assertEqual({error, stopped}, dev_websocket:info())
    after
        [{code:purge(Module), code:delete(Module), code:purge(Module)} || {Module, _, _} <- Copies]
    end.

the_application_stops_and_starts_the_server() ->
    ok = dev_websocket:stop(),
    ok = application:start(dev_websocket),
    try
        {Info, Client} = serve(),
        still_serves(Info, Client),
        ok = quietly(fun() -> application:stop(dev_websocket) end),
        ?assertMatch({close, 1001, _}, ws_client:recv(Client)),
        ?assertEqual({error, stopped}, dev_websocket:info()),
        ok = application:start(dev_websocket),
        {Next, NextClient} = serve(),
        still_serves(Next, NextClient)
    after
        quietly(fun() -> application:stop(dev_websocket) end)
    end.

%%% Other VMs.

without_the_library_every_call_says_so() ->
    with_copy(fun(Ebin, _Library) ->
        with_peer(Ebin, [], fun(Call) ->
            {error, {engine_not_loaded, _}} = Error = Call(hb_websocket_nif, info, []),
            Calls = [
                {hb_websocket_nif, cast, [a]}, {hb_websocket_nif, cast_large, [a]}, {hb_websocket_nif, settings, []},
                {hb_websocket_nif, stats, []}, {hb_websocket_nif, validate, [#{}]}, {hb_websocket_nif, stop, [1]},
                {hb_websocket_nif, start, [1, #{}]}, {hb_websocket_nif, boot, [1, #{}]}, {hb_websocket_nif, load, []},
                {dev_websocket, info, []}, {dev_websocket, start, [#{}]}, {dev_websocket, stop, []},
                {dev_websocket, config, []}, {dev_websocket, stats, []}
            ],
            [?assertEqual(Error, Call(Module, Name, Arguments)) || {Module, Name, Arguments} <- Calls],
            ?assertEqual({ok, <<"OK">>}, Call(dev_websocket, cast, [#{}, #{}])),
            ?assertMatch(#{exports := _}, Call(dev_websocket, info, [#{}])),
            ?assertEqual(ok, Call(application, start, [dev_websocket]))
        end)
    end).

a_library_that_arrives_later_is_found() ->
    with_copy(fun(Ebin, Library) ->
        with_peer(Ebin, [], fun(Call) ->
            ?assertMatch({error, {engine_not_loaded, _}}, Call(dev_websocket, info, [])),
            Place = filename:join([filename:dirname(Ebin), "priv", "crates", "dev_websocket_nif", "dev_websocket_nif.so"]),
            ok = filelib:ensure_dir(Place),
            {ok, _} = file:copy(Library, Place),
            ?assertEqual(ok, Call(dev_websocket, start, [#{}])),
            ?assertMatch({ok, #{uri := _}}, Call(dev_websocket, info, []))
        end)
    end).

an_archive_folder_is_a_place_for_the_library() ->
    with_copy(fun(Ebin, Library) ->
        {ok, _} = file:copy(Library, filename:join(Ebin, "dev_websocket_nif.so")),
        with_peer(Ebin, [], fun(Call) ->
            ?assertMatch({ok, #{uri := _}}, Call(dev_websocket, info, []))
        end)
    end).

%% As newer nodes load a device: modules under generated names from memory, and
%% everything else unpacked into a folder that `hb_device_archive' knows.
a_packaged_device_brings_its_engine() ->
    with_copy(fun(Ebin, Library) ->
        Folder = filename:dirname(Ebin),
        ok = file:rename(Ebin, filename:join(Folder, "ebin.all")),
        Place = fun(Parts, From) ->
            File = filename:join([Folder | Parts]),
            ok = filelib:ensure_dir(File),
            {ok, _} = file:copy(From, File)
        end,
        Place(["ebin", "hb_websocket_nif.beam"], filename:join([Folder, "ebin.all", "hb_websocket_nif.beam"])),
        Place(["crates", "dev_websocket_nif", "dev_websocket_nif.so"], Library),
        ok = file:del_dir_r(filename:join(Folder, "ebin.all")),
        with_peer(Folder, [], fun(Call) ->
            Load = fun({Module, File, Beam}) -> {module, Module} = Call(code, load_binary, [Module, File, Beam]) end,
            Copies = [copy(Module) || Module <- [dev_websocket, dev_websocket_engine, dev_websocket_settings]],
            [{Root, _, _}, {Engine, _, _}, _] = Copies,
            Load(archive_module(Engine, Folder)),
            lists:foreach(Load, Copies),
            ?assertEqual({ok, <<"OK">>}, Call(Root, cast, [#{<<"topic">> => <<"first">>}, #{}])),
            ?assertMatch(#{<<"publications">> := 1}, Call(Root, stats, [])),
            ?assertMatch({ok, #{uri := _}}, Call(Root, info, []))
        end)
    end).

a_taken_port_fails_neither_the_load_nor_the_vm() ->
    {ok, Taken} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Taken),
    with_peer(ebin(), [{"DEV_WEBSOCKET_PORT", integer_to_list(Port)}], fun(Call) ->
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

an_embedded_system_boots_the_server() ->
    in_folder(fun(Folder) ->
        Boot = boot_script(Folder),
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
        "gen_tcp:send(S, \"GET /ws?topic=t HTTP/1.1\\r\\nHost: a\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
        "Sec-WebSocket-Version: 13\\r\\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\n\\r\\n\"), "
        "receive {tcp, S, <<\"HTTP/1.1 101\", _/binary>>} -> ok end, ",
    ?assertEqual({0, <<>>}, run(["-pa", ebin()], Cast ++ "halt().")),
    ?assertEqual({7, <<>>}, run(["-pa", ebin()], Cast ++ "halt(7, [{flush, false}]).")).

a_vm_that_stops_tells_its_clients() ->
    {ok, Peer, _} = start_peer(ebin(), []),
    Call = fun(Module, Name, Arguments) -> peer:call(Peer, Module, Name, Arguments) end,
    ok = Call(application, start, [dev_websocket]),
    {ok, #{uri := Uri}} = Call(dev_websocket, info, []),
    {ok, Client} = ws_client:connect(Uri),
    #{<<"type">> := <<"connection_established">>} = ws_client:recv_json(Client),
    ok = Call(init, stop, []),
    ?assertMatch({close, 1001, _}, ws_client:recv(Client)),
    ?assertEqual(closed, ws_client:recv(Client)).

%%% What the tests are made of.

%% @doc The server as `info' tells it, and a client of it.
serve() ->
    {ok, #{uri := Uri}} = dev_websocket:info(),
    {ok, Client} = ws_client:connect(Uri, "topic=t"),
    #{<<"type">> := <<"connection_established">>} = ws_client:recv_json(Client),
    {dev_websocket:info(), Client}.

still_serves(Info, Client) ->
    ?assertEqual(Info, dev_websocket:info()),
    N = erlang:unique_integer([positive]),
    dev_websocket:cast(#{<<"topic">> => <<"t">>, <<"data">> => N}, #{}),
    ?assertMatch([#{<<"data">> := #{<<"data">> := N}}], ws_client:messages(Client, 1)).

answer(Ref) ->
    receive
        {Ref, Answer} -> Answer
    after ?DEADLINE -> error(no_answer)
    end.

flush_until(Ref) ->
    receive
        {Ref, Answer} -> Answer;
        {_, _} -> flush_until(Ref)
    after ?DEADLINE -> error(no_answer)
    end.

deep(0, Term) -> Term;
deep(Depth, Term) -> deep(Depth - 1, [Term]).

%% @doc Run with the log off: what it would say is what the test asks for.
quietly(Run) ->
    #{level := Level} = logger:get_primary_config(),
    ok = logger:set_primary_config(level, none),
    try Run()
    after
        ok = logger:set_primary_config(level, Level)
    end.

%% @doc A module of the device under a generated name, as a packager makes it: all
%% names of the group are renamed, and nothing else.
copy(Module) ->
    {ok, {_, [{abstract_code, {raw_abstract_v1, Forms}}]}} = beam_lib:chunks(code:which(Module), [abstract_code]),
    {ok, Copy, Beam} = compile:forms(rename(Forms), [debug_info]),
    {Copy, atom_to_list(Copy) ++ ".beam", Beam}.

rename(Atom) when is_atom(Atom) ->
    case atom_to_list(Atom) of
        "dev_websocket" ++ Rest when Rest =:= ""; hd(Rest) =:= $_ -> list_to_atom("_hb_device_copy" ++ Rest);
        _ -> Atom
    end;
rename(Tuple) when is_tuple(Tuple) -> list_to_tuple(rename(tuple_to_list(Tuple)));
rename([Head | Tail]) -> [rename(Head) | rename(Tail)];
rename(Other) -> Other.

%% @doc A `hb_device_archive' that knows the folder of one module's archive.
archive_module(Module, Folder) ->
    Forms = [
        {attribute, 1, module, hb_device_archive},
        {attribute, 1, export, [{implementation_dir, 1}]},
        {function, 1, implementation_dir, 1, [{clause, 1, [{atom, 1, Module}], [], [{string, 1, Folder}]}]}
    ],
    {ok, Name, Beam} = compile:forms(Forms),
    {Name, "hb_device_archive.beam", Beam}.

ebin() ->
    filename:absname(filename:dirname(code:which(dev_websocket))).

in_folder(Run) ->
    Folder = filename:join([
        filename:basedir(user_cache, "dev_websocket_tests"),
        integer_to_list(erlang:system_time()) ++ os:getpid()
    ]),
    ok = filelib:ensure_dir(filename:join(Folder, "file")),
    try Run(Folder)
    after
        file:del_dir_r(Folder)
    end.

%% @doc The compiled modules in a folder of their own, without the library.
with_copy(Run) ->
    in_folder(fun(Folder) ->
        Ebin = filename:join([Folder, "lib", "ebin"]),
        ok = filelib:ensure_dir(filename:join(Ebin, "file")),
        [
            {ok, _} = file:copy(File, filename:join(Ebin, filename:basename(File)))
         ||
            File <- filelib:wildcard(filename:join(ebin(), "{dev,hb}_websocket*.{beam,app}")),
            string:find(File, "_tests") =:= nomatch
        ],
        Run(Ebin, filename:join([code:priv_dir(dev_websocket), "crates", "dev_websocket_nif", "dev_websocket_nif.so"]))
    end).

start_peer(Ebin, Environment) ->
    Quiet = ["-kernel", "logger_level", "none"],
    peer:start_link(#{
        connection => standard_io,
        args => ["-pa", Ebin | Quiet],
        env => maps:to_list(maps:merge(environment(), maps:from_list(Environment)))
    }).

with_peer(Ebin, Environment, Run) ->
    {ok, Peer, _} = start_peer(Ebin, Environment),
    try Run(fun(Module, Name, Arguments) -> peer:call(Peer, Module, Name, Arguments) end)
    after
        peer:stop(Peer)
    end.

environment() ->
    #{"DEV_WEBSOCKET_PORT" => "0", "DEV_WEBSOCKET_HOST" => "127.0.0.1"}.

%% @doc The exit status and the output of a VM.
run(Arguments, Code) ->
    Erl = filename:join([code:root_dir(), "bin", "erl"]),
    Port = open_port({spawn_executable, Erl}, [
        {args, Arguments ++ ["-noshell", "-eval", Code]},
        {env, maps:to_list(environment())},
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
    Options = [{path, [ebin()]}, {outdir, Folder}, local, silent, no_warn_sasl],
    {ok, _, _} = systools:make_script(Boot, Options),
    Boot.
