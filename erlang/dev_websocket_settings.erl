%%% @doc Where settings come from. The strongest first: what `start/1' is given or
%%% the node message holds (`websocket_port'), the OS environment
%%% (`DEV_WEBSOCKET_PORT'), the application environment (`port'), the defaults.
%%%
%%% Names, kinds and ranges are the engine's: this module asks it for them. A value
%%% in an environment that does not fit goes nowhere unnoticed. Of a setting that
%%% protects it is handed on as it is, so that the engine refuses to open: its default
%%% may let in what somebody wanted to keep out. Of another it is named in the log and
%%% skipped, and the next weaker source counts. A bad value given to `start/1' is an
%%% error, because there is somebody to read it.
-module(dev_websocket_settings).
-export([with_environment/1, of_node/1, merge/2]).

-define(PREFIX, "DEV_WEBSOCKET_").
%% Characters of a value that are shown in the log.
-define(MAX_SHOWN, 100).

%% @doc Put given settings over those of the environments. Settings that protect are there
%% also with values that do not fit, which `boot' and `start' of the engine refuse.
-spec with_environment(map()) -> map().
with_environment(Stronger) ->
    Names = names(),
    Given = os_environment() ++ application_environment(),
    log_unknown([Source || {Source, Name, _} <- Given, not lists:member(Name, Names)]),
    usable(Given, Names, Stronger).

%% @doc The settings that a node's options give: `websocket_port' and the like, with
%% bad values as `with_environment/1' has them.
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
    usable(Given, Names, #{}).

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
    ok = load(Application),
    [
        {io_lib:format("~ts of the application environment", [Name]), Name, Value}
     ||
        {Name, Value} <- application:get_all_env(Application)
    ].

%% @doc The device may be called before anybody has loaded the application, which
%% starts nothing; without it nobody sees what the system's configuration says. Early
%% in the boot of a node there is no controller yet to ask.
load(Application) ->
    _ = try application:load(Application)
    catch exit:_ -> ok
    end,
    ok.

%% @doc The setting of that name; a variable of another name makes no atom.
setting_name(Text) ->
    try list_to_existing_atom(Text)
    catch error:_ -> Text
    end.

%% @doc The values that count, of sources from the strongest to the weakest, after
%% settings that are stronger than all of them.
usable(Given, Names, Stronger) ->
    Protective = hb_websocket_nif:protective(),
    lists:foldl(
        fun({Source, Name, Value}, Settings) ->
            IsWanted = lists:member(Name, Names) andalso not is_map_key(Name, Settings),
            case IsWanted andalso check(Source, Name, Value, lists:member(Name, Protective)) of
                true -> Settings#{Name => Value};
                false -> Settings
            end
        end,
        Stronger,
        Given
    ).

%% @doc Whether a value counts. One that does not fit is logged.
check(Source, Name, Value, IsProtective) ->
    case hb_websocket_nif:validate(#{Name => Value}) of
        ok ->
            true;
        {error, {invalid_setting, _, Expected}} ->
            Shown = io_lib:format("~0tp", [Value], [{chars_limit, ?MAX_SHOWN}]),
            log_misfit(Source, Name, Shown, Expected, IsProtective),
            IsProtective
    end.

log_misfit(Source, Name, Shown, Expected, true) ->
    dev_websocket_log:log(
        error,
        #{event => refused_setting, setting => Name},
        "The WebSocket server stays closed until ~ts is corrected: it is ~ts, but must be ~ts.",
        [Source, Shown, Expected]
    );
log_misfit(Source, Name, Shown, Expected, false) ->
    dev_websocket_log:log(
        error,
        #{event => ignored_setting, setting => Name},
        "~ts is ignored: it is ~ts, but must be ~ts.",
        [Source, Shown, Expected]
    ).

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
