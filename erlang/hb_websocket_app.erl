%%% @doc The application: it starts the engine with the node and stops it with
%%% the node, so that clients are told. A node that never starts the application
%%% has the engine as well, from when the device is loaded.
%%%
%%% Its supervisor is that of the device. The engine lives in its own threads, and nothing
%%% in Erlang has to be restarted for it.
-module(hb_websocket_app).
-behaviour(application).
-export([start/2, prep_stop/1, stop/1]).

%% @doc Start the engine. A listener that cannot be bound is logged and does not
%% keep the node from starting: `info/0' of the device tells, `start/1' tries
%% again.
start(_Type, _Args) ->
    Started = dev_websocket_sup:take_over(),
    _ = dev_websocket_engine:resume(),
    Started.

%% @doc Stop the engine while everything else still runs.
prep_stop(State) ->
    _ = dev_websocket_engine:stop(),
    State.

stop(_State) -> ok.
