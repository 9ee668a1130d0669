%%% @doc Whole VMs, from their start to their end: without the library, with a taken
%%% port, as an embedded system, as a newer node loads a device, and halted.
-module(vm_tests).
-include_lib("eunit/include/eunit.hrl").

-define(DEADLINE, 30000).

vm_test_() ->
    [
        {timeout, 120, {atom_to_list(Name), fun() -> ?MODULE:Name() end}}
     ||
        Name <- [
            without_the_library_every_call_says_so,
            a_library_that_arrives_later_is_found,
            an_archive_folder_is_a_place_for_the_library,
            a_packaged_device_brings_its_engine,
            the_package_works_where_nothing_else_is,
            a_package_has_its_specification_and_options_of_a_node,
            a_package_does_not_replace_another_folder,
            copies_publish_a_result_once,
            nothing_in_the_device_depends_on_its_names,
            keys_are_as_newer_nodes_want_them,
            a_taken_port_fails_neither_the_load_nor_the_vm,
            a_setting_that_protects_keeps_a_new_vm_closed,
            the_configuration_of_the_system_is_seen_before_the_application_is_loaded,
            an_embedded_system_boots_the_server,
            halt_ends_a_busy_vm_cleanly,
            a_vm_that_stops_tells_its_clients,
            a_vm_that_starts_anew_serves_again
        ]
    ].

-compile([export_all, nowarn_export_all]).

without_the_library_every_call_says_so() ->
    with_copy(fun(Ebin, _Library) ->
        with_peer(Ebin, [], fun(Call) ->
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
            %% The node's own work goes on, and whoever asks is told.
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
            Copies = [{Root, _, _} | _] = device_copy:modules(),
            Load(archive_module(Copies, Folder)),
            lists:foreach(Load, Copies),
            ?assertEqual({ok, <<"OK">>}, Call(Root, cast, [#{<<"topic">> => <<"first">>}, #{}])),
            ?assertMatch(#{<<"publications">> := 1}, Call(Root, stats, [])),
            ?assertMatch({ok, #{uri := _}}, Call(Root, info, []))
        end)
    end).

%% The folder of `make package', as a packager and then a node treat it: compiled from
%% the sources in it, the root loaded first, and the resources unpacked somewhere.
the_package_works_where_nothing_else_is() ->
    in_folder(fun(Folder) ->
        Package = filename:join(Folder, "websocket@1.0"),
        Listed = package(Package),
        {Modules, Resources} = device_copy:package(Package),
        ?assertEqual(length(device_copy:group()), length(Modules)),
        Library = "crates/dev_websocket_nif/dev_websocket_nif.so",
        ?assertEqual([Library, "ebin/hb_websocket_nif.beam"], lists:sort([Name || {Name, _} <- Resources])),
        [
            ?assertMatch({Name, {_, _}}, {Name, binary:match(unicode:characters_to_binary(Listed), list_to_binary(Name))})
         ||
            Name <- [atom_to_list(Module) ++ ".erl" || Module <- device_copy:group()] ++
                [Name || {Name, _} <- Resources] ++ ["dev_websocket.md", "websocket-fragment.json"]
        ],
        %% Nothing that only a debugger needs.
        [
            ?assertEqual(nomatch, binary:match(proplists:get_value(Library, Resources), <<".symtab">>))
         ||
            os:find_executable("strip") =/= false
        ],
        Unpacked = filename:join(Folder, "unpacked"),
        [
            begin
                File = filename:join(Unpacked, Name),
                ok = filelib:ensure_dir(File),
                ok = file:write_file(File, Bytes)
            end
         ||
            {Name, Bytes} <- Resources
        ],
        %% It does not need what it was made from.
        ok = file:del_dir_r(Package),
        Empty = filename:join(Folder, "empty"),
        ok = file:make_dir(Empty),
        with_peer(Empty, [], fun(Call) ->
            ok = stand_in_vm:load(Call),
            load(Call, archive_module(Modules, Unpacked)),
            [load(Call, Module) || Module <- Modules],
            [{Root, _, _} | _] = Modules,
            ?assertEqual({error, bad_name}, Call(code, priv_dir, [dev_websocket])),
            {ok, #{<<"uri">> := Uri}} = Call(Root, info, [#{}, #{}, #{}]),
            {ok, Client} = ws_client:connect(Uri, "topic=*"),
            #{<<"type">> := <<"connection_established">>} = ws_client:recv_json(Client),
            {Id, Follower} = followed_process(Call, Uri),
            {Base, Request, Opts} = recorded:call("compute_stack_slot1_loaded"),
            ?assertEqual({ok, Base}, Call(Root, compute, [Base, Request, Opts])),
            computed(Call, Id, 0),
            [
                ?assertEqual([{result, 0}, {message, 0}], [event(Frame) || Frame <- ws_client:messages(Who, 2)])
             ||
                Who <- [Follower, Client]
            ],
            ?assertEqual({ok, <<"OK">>}, Call(Root, cast, [#{}, #{<<"topic">> => <<"t">>, <<"body">> => <<"b">>}, #{}])),
            ?assertMatch([#{<<"data">> := #{<<"body">> := <<"b">>}}], ws_client:messages(Client, 1)),
            %% All that there is comes from the package.
            [
                ?assertEqual({Module, non_existing}, {Module, Call(code, which, [Module])})
             ||
                Module <- [hb_websocket_app | device_copy:group()]
            ],
            ?assertEqual(filename:join([Unpacked, "ebin", "hb_websocket_nif.beam"]), Call(code, which, [hb_websocket_nif]))
        end)
    end).

a_package_has_its_specification_and_options_of_a_node() ->
    in_folder(fun(Folder) ->
        Package = filename:join(Folder, "websocket@1.0"),
        _ = package(Package),
        %% The packager looks for it beside the source, once the folder that it runs in has no
        %% such file: so it has a name of its own.
        Name = proplists:get_value(specification, dev_websocket:module_info(attributes)),
        ?assertMatch("dev_websocket" ++ _, Name),
        {ok, Specification} = file:read_file(filename:join(Package, Name)),
        #{exports := Keys} = dev_websocket:info(#{}),
        [?assertMatch({Key, {_, _}}, {Key, binary:match(Specification, <<"`", Key/binary, "`">>)}) || Key <- Keys],
        %% A node takes everything behind the first dot of a path as its kind.
        {ok, Json} = file:read_file(filename:join(Package, "websocket-fragment.json")),
        #{<<"on">> := #{<<"request">> := Default} = On} = json_reader:decode(Json),
        ?assertMatch([_ | _], Default),
        ?assertEqual([], [Handler || #{<<"device">> := <<"websocket@1.0">>} = Handler <- Default]),
        [
            ?assertEqual({Hook, [#{<<"device">> => <<"websocket@1.0">>, <<"hook">> => #{<<"result">> => <<"ignore">>}}]}, {Hook, Handlers})
         ||
            {Hook, Handlers} <- maps:to_list(maps:remove(<<"request">>, On))
        ],
        ?assertEqual([<<"request">>, <<"response">>, <<"start">>], lists:sort(maps:keys(On)))
    end).

a_package_does_not_replace_another_folder() ->
    in_folder(fun(Folder) ->
        Mine = filename:join([Folder, "mine", "file"]),
        ok = filelib:ensure_dir(Mine),
        ok = file:write_file(Mine, <<"mine">>),
        ?assertMatch({match, _}, re:run(package(filename:dirname(Mine)), "something else")),
        ?assertEqual({ok, <<"mine">>}, file:read_file(Mine))
    end).

%% A copy beside the original: one engine, one listener, one server of tails, one memory
%% of what was published.
copies_publish_a_result_once() ->
    with_peer(ebin(), [], fun(Call) ->
        ok = stand_in_vm:load(Call),
        Copies = [{Copy, _, _} | _] = device_copy:modules(),
        ?assertEqual(lists:sort(Copies), lists:ukeysort(1, Copies)),
        ?assertEqual(length(device_copy:group()), length(Copies)),
        {ok, #{uri := Uri}} = Call(dev_websocket, info, []),
        [load(Call, Module) || Module <- Copies],
        ?assertMatch({ok, #{uri := Uri}}, Call(Copy, info, [])),
        ?assertMatch({ok, #{<<"uri">> := Uri}}, Call(Copy, info, [#{}, #{}, #{}])),
        {ok, Client} = ws_client:connect(Uri, "topic=*"),
        #{<<"type">> := <<"connection_established">>} = ws_client:recv_json(Client),
        ?assertEqual({ok, <<"OK">>}, Call(Copy, cast, [#{<<"n">> => 1}, #{}])),
        ?assertMatch([#{<<"data">> := #{<<"n">> := 1}}], ws_client:messages(Client, 1)),
        %% Both see each slot, with their stack keys, hooks and hints.
        Server = Call(erlang, whereis, [hb_websocket_tails]),
        ?assert(is_pid(Server)),
        {Id, Follower} = followed_process(Call, Uri),
        Path = <<"/", Id/binary, "~process@1.0/compute">>,
        Response = #{<<"request">> => #{<<"path">> => Path}, <<"body">> => #{}},
        lists:foreach(
            fun(Slot) ->
                computed(Call, Id, Slot),
                lists:foreach(
                    fun(Module) ->
                        Base = #{<<"process">> => {link, Id, #{}}, <<"at-slot">> => Slot - 1},
                        ?assertEqual({ok, Base}, Call(Module, compute, [Base, #{<<"slot">> => Slot}, #{}])),
                        ?assertEqual({ok, Response}, Call(Module, response, [#{}, Response, #{}])),
                        ?assertEqual(ok, Call(Module, hint, [Id])),
                        ?assertMatch({ok, #{<<"uri">> := Uri}}, Call(Module, info, [#{}, #{}, #{}]))
                    end,
                    [dev_websocket, Copy]
                ),
                [
                    ?assertEqual([{result, Slot}, {message, Slot}], [event(Frame) || Frame <- ws_client:messages(Who, 2)])
                 ||
                    Who <- [Follower, Client]
                ]
            end,
            [0, 1, 2]
        ),
        ?assertEqual({ok, <<"OK">>}, Call(dev_websocket, cast, [#{<<"n">> => 2}, #{}])),
        ?assertMatch([#{<<"data">> := #{<<"n">> := 2}}], ws_client:messages(Client, 1)),
        followed:nothing_comes(Follower),
        ?assertEqual(Server, Call(erlang, whereis, [hb_websocket_tails])),
        ?assertMatch(
            [_],
            [Name || {{hb_websocket_nif, supervisor} = Name, _, _, _} <- Call(supervisor, which_children, [kernel_safe_sup])]
        ),
        %% The server tells the number of tails with its next tick.
        followed:until(fun() -> maps:get(<<"tails">>, Call(Copy, stats, [])) > 0 end),
        Counts = #{<<"results_published">> => 3, <<"tails">> => 1, <<"connections">> => 2, <<"faults">> => 0},
        ?assertEqual(Counts, maps:with(maps:keys(Counts), Call(Copy, stats, []))),
        ?assertEqual(Counts, maps:with(maps:keys(Counts), Call(dev_websocket, stats, [])))
    end).

%% Names of the group stand where a packager renames them to no harm: as the module of
%% a call, also of one that comes later, or as the caller itself in a call that asks for a
%% module. As data they would differ between copies. Modules of other devices have other
%% names there.
nothing_in_the_device_depends_on_its_names() ->
    Group = device_copy:group(),
    ?assert(length(Group) > 4),
    [
        ?assertEqual({Module, []}, {Module, lists:usort(device_names(Form, Module, Group))})
     ||
        Module <- Group, Form <- device_copy:forms(Module)
    ],
    %% And the search finds what it is for.
    [
        ?assertEqual({Code, Found}, {Code, device_names(parsed(Code), dev_websocket, Group)})
     ||
        {Code, Found} <- [
            {"a(X) -> dev_websocket_node:loaded(X, dev_websocket_engine:boot()).", []},
            {"a(X) -> {dev_websocket, X}.", [dev_websocket]},
            {"a() -> persistent_term:put(dev_websocket, b).", [dev_websocket]},
            {"a() -> gen_server:start(dev_websocket, [], []).", []},
            {"a() -> gen_server:start({local, dev_websocket}, dev_websocket, [], []).", [dev_websocket, dev_websocket]},
            {"a() -> gen_server:start_link({local, dev_websocket}, dev_websocket, [], []).", [dev_websocket]},
            {"a() -> supervisor:start_link({local, b}, dev_websocket, []).", []},
            {"a() -> supervisor:start_link({local, b}, dev_websocket_node, []).", [dev_websocket_node]},
            {"a() -> spawn(dev_websocket, b, []).", []},
            {"a(X) -> X:implementation_dir(dev_websocket).", []},
            {"a(X) -> X:implementation_dir(dev_websocket_node).", [dev_websocket_node]},
            {"a() -> spawn(dev_websocket_node, b, []).", [dev_websocket_node]},
            {"a() -> gen_server:start(dev_websocket_node, [], []).", [dev_websocket_node]},
            {"a() -> {dev_websocket, a, []}.", []},
            {"a() -> {dev_websocket, a, dev_websocket}.", [dev_websocket, dev_websocket]},
            {"a() -> {dev_websocket_node, a, []}.", []},
            {"a() -> {dev_websocket_other, a, []}.", [dev_websocket_other]},
            {"a() -> dev_websocket_other:a().", [dev_websocket_other]},
            {"a(X) -> dev_message:id(X).", [dev_message]},
            {"a(X) -> fun dev_message:id/1.", [dev_message]}
        ]
    ].

device_names({attribute, _, Name, _}, _Self, _Group) when Name =:= module; Name =:= file ->
    [];
device_names({attribute, _, Name, Value}, Self, Group) when Name =/= spec, Name =/= type ->
    %% Attributes hold plain terms, which nobody renames.
    [Atom || Atom <- atoms(Value), is_device(Atom)] ++ device_names(Value, Self, Group);
device_names({call, _, {remote, _, {atom, _, Module}, {atom, _, Function}}, [{atom, _, Self} | Rest]}, Self, Group) when
    {Module, Function} =:= {gen_server, start};
    {Module, Function} =:= {gen_server, start_link};
    {Module, Function} =:= {supervisor, start_link};
    {Module, Function} =:= {proc_lib, start};
    {Module, Function} =:= {proc_lib, hibernate}
->
    device_names(Rest, Self, Group);
%% The module that knows the folder has several names.
device_names({call, _, {remote, _, Archive, {atom, _, implementation_dir}}, [{atom, _, Self}]}, Self, Group) ->
    device_names(Archive, Self, Group);
device_names({tuple, _, [{atom, _, Module}, {atom, _, _}, {nil, _}]}, _Self, Group) ->
    [Module || is_device(Module), not lists:member(Module, Group)];
device_names({call, _, {atom, _, spawn}, [{atom, _, Self} | Rest]}, Self, Group) ->
    device_names(Rest, Self, Group);
device_names({Kind, _, {atom, _, Module}, Function}, Self, Group) when Kind =:= remote ->
    [Module || is_device(Module), not lists:member(Module, Group)] ++ device_names(Function, Self, Group);
device_names({'fun', _, {function, {atom, _, Module}, _, _}}, _Self, Group) ->
    [Module || is_device(Module), not lists:member(Module, Group)];
device_names({remote_type, _, [{atom, _, Module} | Rest]}, Self, Group) ->
    [Module || is_device(Module), not lists:member(Module, Group)] ++ device_names(Rest, Self, Group);
device_names({atom, _, Name}, _Self, _Group) ->
    [Name || is_device(Name)];
device_names({call, Anno, {remote, _, {atom, _, Module}, {atom, _, start_link}} = Call, [{tuple, _, _} = Name | Rest]}, Self, Group) when
    Module =:= gen_server; Module =:= supervisor
->
    %% A name of its own comes before the module.
    device_names(Name, Self, Group) ++ device_names({call, Anno, Call, Rest}, Self, Group);
device_names(Tuple, Self, Group) when is_tuple(Tuple) ->
    device_names(tuple_to_list(Tuple), Self, Group);
device_names([Head | Tail], Self, Group) ->
    device_names(Head, Self, Group) ++ device_names(Tail, Self, Group);
device_names(_, _Self, _Group) ->
    [].

is_device(Atom) -> lists:prefix("dev_", atom_to_list(Atom)).

atoms(Atom) when is_atom(Atom) -> [Atom];
atoms(Tuple) when is_tuple(Tuple) -> atoms(tuple_to_list(Tuple));
atoms([Head | Tail]) -> atoms(Head) ++ atoms(Tail);
atoms(_) -> [].

parsed(Code) ->
    {ok, Tokens, _} = erl_scan:string(Code),
    {ok, Form} = erl_parse:parse_form(Tokens),
    Form.

%% A key's function has three arguments, and nothing in its specification could be
%% taken for a description of them. The leading comment becomes the specification of
%% the device, and the name is declared.
keys_are_as_newer_nodes_want_them() ->
    #{exports := Keys} = dev_websocket:info(#{}),
    Exported = dev_websocket:module_info(exports),
    Specs = [Spec || {attribute, _, spec, Spec} <- device_copy:forms(dev_websocket)],
    [
        begin
            Name = binary_to_existing_atom(Key),
            ?assertEqual({Key, string:lowercase(Key)}, {Key, Key}),
            ?assertEqual({Key, 3}, {Key, lists:max([Arity || {Function, Arity} <- Exported, Function =:= Name, Arity =< 3])}),
            [{_, Types}] = [Spec || {{Function, 3}, _} = Spec <- Specs, Function =:= Name],
            ?assertEqual({Key, []}, {Key, [Type || Type <- Types, not is_plain(Type)]})
        end
     ||
        Key <- Keys
    ],
    ?assertEqual([<<"websocket@1.0">>], proplists:get_value(implements, dev_websocket:module_info(attributes))),
    {ok, <<"%%% @doc ", _/binary>>} = file:read_file(proplists:get_value(source, dev_websocket:module_info(compile))).

is_plain({type, _, 'fun', [{type, _, product, Arguments}, Result]}) ->
    lists:all(fun is_plain_type/1, [Result | Arguments]);
is_plain(_) ->
    false.

is_plain_type({type, _, map, any}) -> true;
is_plain_type({type, _, term, []}) -> true;
is_plain_type(_) -> false.

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

a_setting_that_protects_keeps_a_new_vm_closed() ->
    {ok, Listener} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Listener),
    ok = gen_tcp:close(Listener),
    Environment = [{"DEV_WEBSOCKET_HOST", "127.0.01"}, {"DEV_WEBSOCKET_PORT", integer_to_list(Port)}],
    with_peer(ebin(), Environment, fun(Call) ->
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

the_configuration_of_the_system_is_seen_before_the_application_is_loaded() ->
    in_folder(fun(Folder) ->
        {0, Output} = run(
            ["-pa", ebin(), "-config", configuration(Folder)],
            "undefined = application:get_key(dev_websocket, vsn), {ok, #{uri := Uri}} = dev_websocket:info(), "
            "io:format(\"~s~n\", [Uri]), false = lists:keymember(dev_websocket, 1, application:which_applications()), init:stop()."
        ),
        ?assertMatch({match, _}, re:run(Output, "^ws://configured.example:[0-9]+/ws", [multiline]))
    end).

an_embedded_system_boots_the_server() ->
    in_folder(fun(Folder) ->
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

%% The library stays over that, and knows that it was stopped.
a_vm_that_starts_anew_serves_again() ->
    in_folder(fun(Folder) ->
        Mark = filename:join(Folder, "mark"),
        ok = filelib:ensure_dir(Mark),
        {Status, Output} = run(
            ["-pa", ebin()],
            "ok = application:load(dev_websocket), {ok, #{uri := Uri}} = dev_websocket:info(), io:format(\"~s~n\", [Uri]), "
            "case file:write_file(\"" ++ Mark ++ "\", <<>>, [exclusive]) of "
            "ok -> init:restart(); {error, eexist} -> init:stop() end."
        ),
        ?assertMatch({0, [<<"ws://", First/binary>>, <<"ws://", Second/binary>>]} when First =/= Second,
            {Status, string:lexemes(Output, "\n")})
    end).

%%% What the tests are made of.

%% @doc A `hb_device_archive' that knows the folder of these modules' archive.
archive_module(Modules, Folder) ->
    Forms = [
        {attribute, 1, module, hb_device_archive},
        {attribute, 1, export, [{implementation_dir, 1}]},
        {function, 1, implementation_dir, 1, [
            {clause, 1, [{atom, 1, Module}], [], [{string, 1, Folder}]}
         ||
            {Module, _, _} <- Modules
        ]}
    ],
    {ok, Name, Beam} = compile:forms(Forms),
    {Name, "hb_device_archive.beam", Beam}.

load(Call, {Module, File, Beam}) ->
    ?assertEqual({module, Module}, Call(code, load_binary, [Module, File, Beam])).

package(Folder) ->
    Root = filename:dirname(filename:dirname(proplists:get_value(source, ?MODULE:module_info(compile)))),
    os:cmd(lists:flatten(io_lib:format("sh '~ts/native/package.sh' '~ts' 2>&1", [Root, Folder]))).

%% @doc A process of the node that stands in, a client of it, and the tail that waits for
%% slot 0.
followed_process(Call, Uri) ->
    Id = Call(stand_in_vm, ask, [process, [#{}]]),
    {ok, Client} = ws_client:connect(Uri, "process=" ++ binary_to_list(Id)),
    #{<<"type">> := <<"connection_established">>} = ws_client:recv_json(Client),
    followed:until(fun() ->
        case Call(sys, get_state, [hb_websocket_tails]) of
            #{tails := #{Id := _}, source := cache} -> true;
            #{} -> false
        end
    end),
    {Id, Client}.

%% @doc The node has computed a slot, with a message.
computed(Call, Id, Slot) ->
    _ = Call(stand_in_vm, ask, [compute, [Id, Slot, #{<<"outbox">> => #{<<"1">> => #{<<"action">> => <<"Ping">>}}}]]),
    ok.

%% @doc What an event of a process is, with its slot; of anything else the message.
event(#{<<"slot">> := Slot, <<"data">> := #{<<"type">> := <<"result">>}}) -> {result, Slot};
event(#{<<"slot">> := Slot, <<"process">> := Process, <<"data">> := #{<<"from">> := Process}}) -> {message, Slot};
event(#{<<"data">> := Data}) -> Data.

ebin() ->
    filename:absname(filename:dirname(code:which(dev_websocket))).

in_folder(Run) ->
    Folder = filename:join([
        os:getenv("TMPDIR", "/tmp"),
        "dev_websocket_tests." ++ os:getpid() ++ "." ++ integer_to_list(erlang:unique_integer([positive]))
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
    Options = [{path, [ebin()]}, {outdir, Folder}, local, silent, no_warn_sasl],
    {ok, _, _} = systools:make_script(Boot, Options),
    Boot.
