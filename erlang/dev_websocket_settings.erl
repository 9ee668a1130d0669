%%% @doc The sources of settings, strongest first:
%%%
%%% | source | example |
%%% |---|---|
%%% | `start/1' of the device | `#{port => 8735}' |
%%% | options of the node | `websocket_port' |
%%% | OS environment | `DEV_WEBSOCKET_PORT' |
%%% | application environment | `port' |
%%% | defaults | |
%%%
%%% The engine knows names, types and ranges. A bad value in `start/1' is an error. A bad
%%% value in another source is logged, and its effect depends on the setting. A setting
%%% that protects the node keeps its bad value, and the engine then refuses to listen.
%%% Any other setting takes its value from the next source.
-module(dev_websocket_settings).
-export([all/1, merge/2, of_node/1, keep_node/1, has_node/0]).

-define(PREFIX, "DEV_WEBSOCKET_").
%% Characters of a value in a log line.
-define(MAX_SHOWN, 100).
%% The settings of the node's options, once they are known.
-define(NODE, {hb_websocket_nif, node_settings}).

%% @doc The given settings over those of the node and of the environment.
-spec all(term()) -> map().
all(Given) ->
    Node = case persistent_term:get(?NODE, unknown) of
        Known when is_map(Known) -> Known;
        unknown -> #{}
    end,
    with_environment(merge(Node, Given)).

%% @doc The given settings over others. Names are atoms or binaries.
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

%% @doc The settings in a node's options, such as `websocket_port'.
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

%% @doc Keep the settings of the node for all later starts.
-spec keep_node(map()) -> ok.
keep_node(Settings) ->
    persistent_term:put(?NODE, Settings).

%% @doc Whether the settings of the node are known.
-spec has_node() -> boolean().
has_node() ->
    persistent_term:get(?NODE, unknown) =/= unknown.

%%% Private functions.

with_environment(Stronger) ->
    Names = names(),
    Given = os_environment() ++ application_environment(),
    log_unknown([Source || {Source, Name, _} <- Given, not lists:member(Name, Names)]),
    usable(Given, Names, Stronger).

names() ->
    maps:keys(hb_websocket_nif:settings()).

%% @doc Each variable with the prefix: its name for the log, its setting and its value. An
%% empty variable counts as not set.
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

%% @doc Load the application without starting it, because only then can its environment be
%% read. Early in the boot of a node no application controller runs yet.
load(Application) ->
    _ = try application:load(Application)
    %% The environment is empty then, and the other sources of settings hold.
    catch exit:_ -> ok
    end,
    ok.

%% @doc The setting of that name. The name of an unknown variable creates no atom.
setting_name(Text) ->
    try list_to_existing_atom(Text)
    catch error:badarg -> Text
    end.

%% @doc Add the values of weaker sources, strongest first, to settings that are stronger.
usable(Given, Names, Stronger) ->
    Protective = hb_websocket_nif:protective(),
    lists:foldl(
        fun({Source, Name, Value}, Settings) ->
            IsWanted = lists:member(Name, Names) andalso not is_map_key(Name, Settings),
            case IsWanted andalso is_used(Source, Name, Value, lists:member(Name, Protective)) of
                true -> Settings#{Name => Value};
                false -> Settings
            end
        end,
        Stronger,
        Given
    ).

%% @doc Whether a value is used. A bad value is logged.
is_used(Source, Name, Value, IsProtective) ->
    case hb_websocket_nif:validate(#{Name => Value}) of
        ok ->
            true;
        {error, {invalid_setting, _, Expected}} ->
            Shown = io_lib:format("~0tp", [Value], [{chars_limit, ?MAX_SHOWN}]),
            log_bad_value(Source, Name, Shown, Expected, IsProtective),
            IsProtective
    end.

log_bad_value(Source, Name, Shown, Expected, true) ->
    dev_websocket_log:log(
        error,
        #{event => refused_setting, setting => Name},
        "The WebSocket server stays closed until ~ts is corrected: it is ~ts, but must be ~ts.",
        [Source, Shown, Expected]
    );
log_bad_value(Source, Name, Shown, Expected, false) ->
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
                "~ts is ignored: no WebSocket setting has this name.",
                [Source]
            )
        end,
        Sources
    ).
