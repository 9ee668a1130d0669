%%% @doc The device as newer nodes load it: packaged, under generated names, and in several
%%% copies.
-module(package_tests).
-include_lib("eunit/include/eunit.hrl").

package_test_() ->
    [
        {timeout, 600, {atom_to_list(Name), fun() -> ?MODULE:Name() end}}
     ||
        Name <- [
            a_packaged_device_brings_its_engine,
            the_package_works_without_the_application,
            a_package_has_its_specification_and_options_of_a_node,
            a_package_does_not_replace_another_folder,
            copies_publish_a_result_once,
            device_modules_do_not_depend_on_their_names,
            keys_are_as_newer_nodes_want_them
        ]
    ].

-compile([export_all, nowarn_export_all]).

%% As newer nodes load a device: modules under generated names from memory, and
%% everything else unpacked into a folder that `hb_device_archive' knows.
a_packaged_device_brings_its_engine() ->
    vm:with_copy(fun(Ebin, Library) ->
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
        vm:with_peer(Folder, [], fun(Call) ->
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
the_package_works_without_the_application() ->
    vm:in_folder(fun(Folder) ->
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
        %% The source folder is not needed any more.
        ok = file:del_dir_r(Package),
        Empty = filename:join(Folder, "empty"),
        ok = file:make_dir(Empty),
        vm:with_peer(Empty, [], fun(Call) ->
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
                Module <- device_copy:group()
            ],
            ?assertEqual(filename:join([Unpacked, "ebin", "hb_websocket_nif.beam"]), Call(code, which, [hb_websocket_nif]))
        end)
    end).

a_package_has_its_specification_and_options_of_a_node() ->
    vm:in_folder(fun(Folder) ->
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
    vm:in_folder(fun(Folder) ->
        Mine = filename:join([Folder, "mine", "file"]),
        ok = filelib:ensure_dir(Mine),
        ok = file:write_file(Mine, <<"mine">>),
        ?assertMatch({match, _}, re:run(package(filename:dirname(Mine)), "something else")),
        ?assertEqual({ok, <<"mine">>}, file:read_file(Mine))
    end).

%% A copy beside the original shares the engine, the listener, the tails server and the
%% marks of processes.
copies_publish_a_result_once() ->
    vm:with_peer(vm:ebin(), [], fun(Call) ->
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
        ?assertEqual(
            [{hb_websocket_nif, supervisor}],
            lists:sort([Name || {Name, _, _, _} <- Call(supervisor, which_children, [kernel_safe_sup]), is_tuple(Name)])
        ),
        %% The server tells the number of tails with its next tick.
        followed:until(fun() -> maps:get(<<"tails">>, Call(Copy, stats, [])) > 0 end),
        Counts = #{<<"results_published">> => 3, <<"tails">> => 1, <<"connections">> => 2, <<"panics">> => 0},
        ?assertEqual(Counts, maps:with(maps:keys(Counts), Call(Copy, stats, []))),
        ?assertEqual(Counts, maps:with(maps:keys(Counts), Call(dev_websocket, stats, [])))
    end).

%% Names of the group stand where a packager renames them to no harm: as the module of
%% a call, also of one that comes later, or as the caller itself in a call that asks for a
%% module. As data they would differ between copies. Modules of other devices have other
%% names there.
device_modules_do_not_depend_on_their_names() ->
    Group = device_copy:group(),
    ?assert(length(Group) > 4),
    [
        ?assertEqual({Module, []}, {Module, lists:usort(device_names(Form, Module, Group))})
     ||
        Module <- Group, Form <- device_copy:forms(Module)
    ],
    %% The search finds each forbidden use.
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
            {"a(X) -> {dev_websocket_node, a, [X]}.", []},
            {"a(X) -> {dev_websocket_node, a, [X, dev_websocket_node]}.", [dev_websocket_node]},
            {"a() -> {dev_websocket_other, a, []}.", [dev_websocket_other]},
            {"a() -> dev_websocket_other:a().", [dev_websocket_other]},
            {"a(X) -> dev_message:id(X).", [dev_message]},
            {"a(X) -> fun dev_message:id/1.", [dev_message]}
        ]
    ].

device_names({attribute, _, Name, _}, _Self, _Group) when Name =:= module; Name =:= file ->
    [];
device_names({attribute, _, Name, Value}, Self, Group) when Name =/= spec, Name =/= type ->
    %% Attributes hold plain terms, which a packager does not rename.
    [Atom || Atom <- atoms(Value), is_device(Atom)] ++ device_names(Value, Self, Group);
device_names({call, _, {remote, _, {atom, _, Module}, {atom, _, Function}}, [{atom, _, Self} | Rest]}, Self, Group) when
    {Module, Function} =:= {gen_server, start};
    {Module, Function} =:= {gen_server, start_link};
    {Module, Function} =:= {supervisor, start_link};
    {Module, Function} =:= {proc_lib, start_link};
    {Module, Function} =:= {proc_lib, hibernate}
->
    device_names(Rest, Self, Group);
%% The module that knows the folder has several names.
device_names({call, _, {remote, _, Archive, {atom, _, implementation_dir}}, [{atom, _, Self}]}, Self, Group) ->
    device_names(Archive, Self, Group);
device_names({tuple, _, [{atom, _, Module}, {atom, _, _}, Arguments]}, Self, Group) when
    element(1, Arguments) =:= nil; element(1, Arguments) =:= cons
->
    [Module || is_device(Module), not lists:member(Module, Group)] ++ device_names(Arguments, Self, Group);
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

%%% Helpers.

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
            #{tails := #{Id := #{next := 0}}} -> true;
            #{} -> false
        end
    end),
    {Id, Client}.

%% @doc The node has computed a slot, with a message.
computed(Call, Id, Slot) ->
    _ = Call(stand_in_vm, ask, [compute, [Id, Slot, #{<<"outbox">> => #{<<"1">> => #{<<"action">> => <<"Ping">>}}}]]),
    ok.

%% @doc The kind and the slot of an event of a process, or the data of another message.
event(#{<<"slot">> := Slot, <<"data">> := #{<<"type">> := <<"result">>}}) -> {result, Slot};
event(#{<<"slot">> := Slot, <<"process">> := Process, <<"data">> := #{<<"from">> := Process}}) -> {message, Slot};
event(#{<<"data">> := Data}) -> Data.
