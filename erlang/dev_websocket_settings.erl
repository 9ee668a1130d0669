%%% @doc Where settings come from. The strongest first: what `start/1' is given or
%%% the node message holds (`websocket_port'), the OS environment
%%% (`DEV_WEBSOCKET_PORT'), the application environment (`port'), the defaults.
%%%
%%% Names, kinds and ranges are the engine's: this module asks it for them. A bad
%%% value in an environment must not keep a node from starting, nor may it go
%%% unnoticed or take its neighbours with it: it is named in the log and skipped,
%%% so that the next weaker source counts. A bad value given to `start/1' is an
%%% error, because there is somebody to read it.
-module(dev_websocket_settings).
-export([of_environment/0, of_node/1, merge/2]).

-define(PREFIX, "DEV_WEBSOCKET_").
%% Characters of a value that are shown in the log.
-define(MAX_SHOWN, 100).

%% @doc The settings that the environments give.
-spec of_environment() -> map().
of_environment() ->
    Names = names(),
    Os = os_environment(),
    Application = application_environment(),
    log_unknown([Variable || {Variable, Name, _} <- Os, not lists:member(Name, Names)]),
    log_unknown([Source || {Source, Name, _} <- Application, not lists:member(Name, Names)]),
    maps:merge(valid(Application, Names), valid(Os, Names)).

%% @doc The settings that a node's options give: `websocket_port' and the like.
-spec of_node(term()) -> map().
of_node(Opts) ->
    Names = names(),
    Given = [
        {io_lib:format("~ts of the node's options", [Option]), Name, Value}
     ||
        Name <- Names,
        Option <- [list_to_atom("websocket_" ++ atom_to_list(Name))],
        Value <- [dev_websocket_node:option(Option, undefined, Opts)],
        Value =/= undefined
    ],
    valid(Given, Names).

%% @doc Put given settings over others. Names may be atoms or binaries.
-spec merge(map(), term()) -> term().
merge(Base, Given) when is_map(Given) ->
    Known = maps:from_list([{atom_to_binary(Name, utf8), Name} || Name <- names()]),
    maps:fold(
        fun(Name, Value, Acc) when is_binary(Name) -> Acc#{maps:get(Name, Known, Name) => Value};
           (Name, Value, Acc) -> Acc#{Name => Value}
        end,
        Base,
        Given
    );
merge(_Base, Given) ->
    Given.

%%% Private functions.

names() ->
    maps:keys(hb_websocket_nif:settings()).

%% @doc Every variable with the prefix, as what to call it, its setting, its value.
%% An empty variable counts as one that is not set.
os_environment() ->
    [
        {Variable, setting_name(string:lowercase(Name)), Value}
     ||
        {?PREFIX ++ Name = Variable, [_ | _] = Value} <- os:env()
    ].

application_environment() ->
    Application = hb_websocket_nif:application(),
    [
        {io_lib:format("~ts of the application environment", [Name]), Name, Value}
     ||
        {Name, Value} <- application:get_all_env(Application)
    ].

%% @doc The setting of that name; a variable of another name makes no atom.
setting_name(Text) ->
    try list_to_existing_atom(Text)
    catch error:_ -> Text
    end.

valid(Sources, Names) ->
    maps:from_list([
        {Name, Value}
     ||
        {Source, Name, Value} <- Sources, lists:member(Name, Names), is_valid(Source, Name, Value)
    ]).

is_valid(Source, Name, Value) ->
    case hb_websocket_nif:validate(#{Name => Value}) of
        ok ->
            true;
        {error, {invalid_setting, _, Expected}} ->
            dev_websocket_log:log(
                error,
                #{event => ignored_setting, setting => Name},
                "~ts is ignored: it is ~ts, but must be ~ts.",
                [Source, io_lib:format("~0tp", [Value], [{chars_limit, ?MAX_SHOWN}]), Expected]
            ),
            false
    end.

log_unknown(Sources) ->
    lists:foreach(
        fun(Source) ->
            dev_websocket_log:log(
                warning,
                #{event => ignored_setting},
                "~ts is ignored: there is no such WebSocket setting.",
                [Source]
            )
        end,
        Sources
    ).
