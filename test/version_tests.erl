%%% @doc A device and an engine of another version in one VM: nothing fails but the calls
%%% that need the engine, and one line asks for a restart.
-module(version_tests).
-include_lib("eunit/include/eunit.hrl").
-export([run/2, log/2]).

-define(DEADLINE, 30000).

version_test_() ->
    [
        {timeout, 600, {lists:flatten(io_lib:format("~s (~w)", [Name, Version])), fun() -> in_vm(Name, Version) end}}
     ||
        {Name, Version} <- [
            {an_engine_of_another_version_is_asked_for_nothing, current() - 1},
            {an_engine_of_another_version_is_asked_for_nothing, current() + 1},
            %% The stand-in of a library that has no such function.
            {an_engine_of_another_version_is_asked_for_nothing, {error, {engine_not_loaded, not_tried}}},
            {an_engine_without_a_version_is_asked_for_nothing, none},
            {an_engine_of_the_same_version_is_asked, current()},
            {many_callers_give_one_line, current() + 1},
            {a_newer_copy_leaves_the_device_that_runs_alone, library},
            {the_library_has_the_version_of_the_device, library}
        ]
    ].

-compile([export_all, nowarn_export_all]).

the_library_has_the_version_of_the_device(library) ->
    ?assertEqual(ok, dev_websocket_library:check_version()),
    ?assert(dev_websocket_library:is_current()),
    ?assertEqual(current(), hb_websocket_nif:interface()),
    ?assertMatch({ok, _}, dev_websocket:info()),
    nothing_else().

an_engine_of_another_version_is_asked_for_nothing(Version) ->
    Engine = case Version of
        Number when is_integer(Number) -> Number;
        _ -> 0
    end,
    calls_are_answered(Engine),
    Known = [cast, has_audience, publish, publish_json, count_dropped],
    ?assertEqual([], [Function || {Function, _} <- asked(), not lists:member(Function, Known)]),
    %% Casts have come through, each as it was.
    ?assertEqual(
        [[#{<<"n">> => 1}], [#{<<"n">> => 2}]],
        [Arguments || {cast, Arguments} <- asked()]
    ),
    ?assertMatch([[#{<<"body">> := <<"b">>}, #{}]], [Arguments || {publish, Arguments} <- asked()]),
    ?assertMatch([[<<"{\"n\":3}">>, #{}]], [Arguments || {publish_json, Arguments} <- asked()]),
    ?assertMatch([_ | _], [1 || {count_dropped, [malformed]} <- asked()]).

%% It has none of the functions that came later, and not all of those from before.
an_engine_without_a_version_is_asked_for_nothing(none) ->
    calls_are_answered(0).

an_engine_of_the_same_version_is_asked(_Version) ->
    _ = dev_websocket:info(),
    ?assertMatch([_ | _], [1 || {info, []} <- asked()]),
    nothing_else().

many_callers_give_one_line(Version) ->
    Expected = mismatch(Version),
    Before = processes(),
    Callers = [spawn_monitor(fun() -> exit({answer, dev_websocket:stats()}) end) || _ <- lists:seq(1, 200)],
    [
        receive {'DOWN', Monitor, process, Pid, Reason} -> ?assertEqual({answer, Expected}, Reason) end
     ||
        {Pid, Monitor} <- Callers
    ],
    followed:until(fun() -> processes() -- Before =:= [] end),
    one_line(Version).

%% A newer device comes into a VM that has an engine and clients.
a_newer_copy_leaves_the_device_that_runs_alone(library) ->
    Client = fresh_server:client("topic=t"),
    Copies = [{Copy, _, _} | _] = device_copy:modules(fun
        (dev_websocket_library, Forms) -> [renumbered(Form) || Form <- Forms];
        (_, Forms) -> Forms
    end),
    [{module, Module} = code:load_binary(Module, File, Beam) || {Module, File, Beam} <- Copies],
    Error = {error, {engine_version, #{device => current() + 1, engine => current()}}},
    [?assertEqual(Error, Call()) || Call <- [fun Copy:info/0, fun Copy:stop/0, fun() -> Copy:start(#{port => 0}) end]],
    ?assertMatch({info, #{<<"status">> := 503}}, {info, element(2, Copy:info(#{}, #{}, #{}))}),
    [
        begin
            ?assertEqual({ok, <<"OK">>}, Module:cast(#{<<"topic">> => <<"t">>, <<"n">> => N}, #{})),
            ?assertMatch([#{<<"data">> := #{<<"n">> := N}}], ws_client:messages(Client, 1))
        end
     ||
        {N, Module} <- [{1, Copy}, {2, dev_websocket}]
    ],
    ?assertMatch({ok, _}, dev_websocket:info()),
    ?assertEqual(ok, dev_websocket:start(#{max_connections => 7})),
    one_line(current(), current() + 1).

%%% Helpers.

%% @doc Every call of the device, with an engine that it does not work with.
calls_are_answered(Engine) ->
    Error = mismatch(Engine),
    {Base, Request, Opts} = recorded:call("compute_stack_slot1_loaded"),
    [
        ?assertEqual({Name, Error}, {Name, apply(dev_websocket, Name, Arguments)})
     ||
        {Name, Arguments} <- [
            {info, []}, {start, [#{}]}, {stop, []}, {config, []}, {stats, []}, {listen, [self()]}, {unlisten, [self()]},
            {send, [1, {text, <<"a">>}]}, {connection, [1]}, {connections, []}, {connections, [#{}]}, {disconnect, [1]}
        ]
    ],
    [
        begin
            {error, #{<<"status">> := 503, <<"body">> := Text}} = apply(dev_websocket, Key, [#{}, #{}, #{}]),
            ?assertMatch({match, _}, re:run(Text, "restart the node"))
        end
     ||
        Key <- [info, stats]
    ],
    [
        ?assertEqual({Key, {ok, Expected}}, {Key, apply(dev_websocket, Key, [Base, Request, Opts])})
     ||
        {Key, Expected} <- [
            {init, Base}, {compute, Base}, {normalize, Base}, {snapshot, #{}}, {start, Request}, {step, Request}, {response, Request}
        ]
    ],
    [?assertEqual({ok, <<"OK">>}, dev_websocket:cast(#{<<"n">> => N}, #{})) || N <- [1, 2]],
    [
        ?assertEqual({ok, <<"OK">>}, dev_websocket:cast(#{}, Cast, #{}))
     ||
        Cast <- [#{<<"body">> => <<"b">>}, #{<<"content-type">> => <<"application/json">>, <<"body">> => <<"{\"n\":3}">>}]
    ],
    ?assertMatch({error, #{<<"status">> := 400}}, dev_websocket:cast(#{}, #{}, #{})),
    ?assertEqual(ok, dev_websocket:hint(stand_in:id())),
    %% The application starts, so the node's release does, and runs on.
    ?assertEqual(ok, application:start(dev_websocket)),
    Server = followed:tails(),
    Server ! tick,
    ok = gen_server:cast(Server, reload),
    [Server ! Message || Message <- [hinted, {websocket_interest, changed}]],
    ?assertEqual(Server, followed:tails()),
    ?assertEqual(ok, application:stop(dev_websocket)),
    %% The hook that does nothing has a line of its own.
    told(step_hook),
    one_line(Engine).

mismatch(Engine) -> {error, {engine_version, #{device => current(), engine => Engine}}}.

%% @doc The version of the device, as its sources have it.
current() ->
    [Version] = [
        Number
     ||
        {function, _, interface, 0, [{clause, _, [], [], [{integer, _, Number}]}]} <- device_copy:forms(dev_websocket_library)
    ],
    Version.

%% @doc The function that names the version, with the next one.
renumbered({function, F, interface, 0, [{clause, C, [], [], [{integer, I, Number}]}]}) ->
    {function, F, interface, 0, [{clause, C, [], [], [{integer, I, Number + 1}]}]};
renumbered(Form) ->
    Form.

%%% A VM of its own, with a log that is seen.

in_vm(Name, Version) ->
    Folders = lists:usort([filename:absname(filename:dirname(code:which(Module))) || Module <- [dev_websocket, ?MODULE]]),
    {ok, Peer, _} = peer:start_link(#{
        connection => standard_io,
        args => ["-pa" | Folders],
        env => [{"DEV_WEBSOCKET_PORT", "0"}, {"DEV_WEBSOCKET_HOST", "127.0.0.1"}]
    }),
    try peer:call(Peer, ?MODULE, run, [Name, Version], 100000)
    after
        peer:stop(Peer)
    end.

run(Name, Version) ->
    [logger:remove_handler(Handler) || Handler <- logger:get_handler_ids()],
    ok = logger:add_handler(?MODULE, ?MODULE, #{config => #{test => self()}}),
    _ = ets:new(?MODULE, [named_table, public, ordered_set]),
    Version =:= library orelse load_engine(Version),
    ?MODULE:Name(Version).

%% @doc An engine in Erlang, which records its calls. The one without a version has only the
%% first functions, and they raise, except for its loading.
load_engine(none) ->
    load_module(["-export([load/0, cast/1]).", "load() -> ok.", "cast(_) -> error(old)."]);
load_engine(Version) ->
    load_module([
        "-export([load/0, interface/0, application/0, '$handle_undefined_function'/2]).",
        "load() -> ok.",
        lists:flatten(io_lib:format("interface() -> ~w.", [Version])),
        "application() -> dev_websocket.",
        "'$handle_undefined_function'(Name, Arguments) -> "
        "ets:insert(version_tests, {erlang:unique_integer([monotonic]), Name, Arguments}), "
        "case Name of info -> {error, stopped}; _ -> ok end."
    ]).

load_module(Lines) ->
    Forms = [
        begin
            {ok, Tokens, _} = erl_scan:string(Line),
            {ok, Form} = erl_parse:parse_form(Tokens),
            Form
        end
     ||
        Line <- ["-module(hb_websocket_nif)." | Lines]
    ],
    {ok, Module, Beam} = compile:forms(Forms),
    {module, Module} = code:load_binary(Module, "engine.beam", Beam).

asked() -> [{Name, Arguments} || {_, Name, Arguments} <- ets:tab2list(?MODULE)].

log(#{level := Level, msg := Message, meta := #{event := Name} = Metadata}, #{config := #{test := Test}}) ->
    Test ! {told, Name, Level, Metadata, line(Message)};
log(_Event, _Config) ->
    ok.

line({string, Text}) -> unicode:characters_to_binary(Text);
line({Format, Arguments}) -> unicode:characters_to_binary(io_lib:format(Format, Arguments)).

told(Name) ->
    receive {told, Name, Level, Metadata, Line} -> {Level, Metadata, Line}
    after ?DEADLINE -> error({not_told, Name})
    end.

one_line(Engine) ->
    one_line(Engine, current()).

one_line(Engine, Device) ->
    {Level, Metadata, Line} = told(engine_version),
    ?assertMatch({error, #{device := Device, engine := Engine}}, {Level, Metadata}),
    Text = io_lib:format("interface ~b\\).*interface ~b\\).*Restart the node", [Device, Engine]),
    ?assertMatch({match, _}, re:run(Line, Text)),
    nothing_else(engine_version).

nothing_else(Name) ->
    receive {told, Name, _, _, Line} -> error({told_again, Line})
    after 0 -> ok
    end.

nothing_else() -> nothing_else(engine_version).
