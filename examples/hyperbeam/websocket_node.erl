%%% @doc A HyperBEAM node with the WebSocket device among its devices.
%%%
%%% A node has the devices of its option `preloaded_devices', and an option that is
%%% given replaces the default. So this one is put at the end of the default list.
%%% Hooks go beside those that the configuration has.
-module(websocket_node).
-export([main/1, start/2, options/2]).

-define(DEVICE, <<"websocket@1.0">>).

%% @doc `main([Hook, Port, Config | Program])', from the command line: start a node with
%% the options of a config.flat, if there is one, and say where it is. A Lua program is
%% run as a process.
main([Hook, Port, Config | Program]) ->
    try
        is_list(code:which(hb_opts)) orelse throw("HyperBEAM is not built where HB_LIBS points to"),
        Node = start(list_to_atom(Hook), port(Port, configured(Config))),
        io:format("Device: ~ts/~~~ts/info~n", [Node, ?DEVICE]),
        case dev_websocket:info() of
            {ok, #{uri := Uri}} ->
                io:format("Clients: ~ts~n", [Uri]),
                [watch(Uri, websocket_ledger:start(Node, File)) || File <- Program];
            {error, Reason} ->
                io:format("Clients: none, the server does not run: ~0tp~n", [Reason])
        end
    catch
        throw:Text ->
            io:format(standard_error, "~ts~n", [Text]),
            halt(1);
        Class:Error:Stack ->
            io:format(standard_error, "no node: ~p~n", [{Class, Error, Stack}]),
            halt(1)
    end.

%% @doc Start a node; its address. `Hook' is `response' or `none'.
start(Hook, Options) ->
    %% Opens the listener, and closes it in order when the VM stops.
    {ok, _} = application:ensure_all_started(dev_websocket),
    hb:start_mainnet(options(Hook, Options)).

%% @doc Options of a node with the device. Results come without a hook too; with `response'
%% the device looks at a process as soon as the node has answered about it.
options(Hook, Options) ->
    Known = maps:merge(hb_opts:default_message(), Options),
    Devices = maps:get(preloaded_devices, Known),
    On = maps:get(on, Options, #{}),
    Options#{
        %% Without it `start_mainnet' gives the node the address of another wallet, and
        %% nobody is its operator.
        priv_wallet => hb:wallet(maps:get(priv_key_location, Known)),
        preloaded_devices => Devices ++ [#{<<"name">> => ?DEVICE, <<"module">> => dev_websocket}],
        on => hook(Hook, add(<<"start">>, handler(), On))
    }.

%%% Private functions.

watch(Uri, Process) ->
    io:format("Watch:   make watch URI=~ts TOPIC=process:~ts~n", [Uri, Process]).

hook(none, On) -> On;
hook(response, On) -> add(<<"response">>, handler(), On);
hook(Hook, _On) -> throw(io_lib:format("no such hook: ~ts. There are response and none", [Hook])).

%% @doc The device changes nothing, so what it answers is ignored.
handler() ->
    #{<<"device">> => ?DEVICE, <<"hook">> => #{<<"result">> => <<"ignore">>}}.

add(Name, Handler, On) ->
    case On of
        #{Name := Handlers} when is_list(Handlers) -> On#{Name := Handlers ++ [Handler]};
        #{Name := Other} -> On#{Name := [Other, Handler]};
        #{} -> On#{Name => Handler}
    end.

%% @doc The port that the command line names, else that of the configuration.
port("", Options) -> maps:merge(#{port => 8734}, Options);
port(Port, Options) -> Options#{port => list_to_integer(Port)}.

configured(File) ->
    case filelib:is_regular(File) of
        false ->
            #{};
        true ->
            case hb_opts:load(File) of
                {ok, Options} -> Options;
                {error, Reason} -> throw(io_lib:format("~ts: ~0tp", [File, Reason]))
            end
    end.
