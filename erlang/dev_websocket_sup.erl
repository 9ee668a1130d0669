%%% @doc The supervisor of the server that follows processes, and the owner of its tables.
%%%
%%% The application starts it. A node that only loads the device has it below
%%% `kernel_safe_sup', which OTP has for helpers of any application. It is temporary there,
%%% so that its end affects only the device. There is one for all copies of the device.
-module(dev_websocket_sup).
-behaviour(supervisor).
-export([start_link/0, ensure/0, take_over/0]).
-export([init/1]).

-define(SUPERVISOR, hb_websocket_sup).
-define(ID, {hb_websocket_nif, supervisor}).

%% @doc Called by a supervisor or by the application.
-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    supervisor:start_link({local, ?SUPERVISOR}, ?MODULE, []).

%% @doc Make sure that it runs. Nobody waits for it, because the supervisor above waits for
%% all `on_load' functions while an embedded system boots.
-spec ensure() -> ok.
ensure() ->
    _ = whereis(?SUPERVISOR) =:= undefined andalso
        spawn(supervisor, start_child, [kernel_safe_sup, child()]),
    ok.

%% @doc The application takes it over.
-spec take_over() -> {ok, pid()} | {error, term()}.
take_over() ->
    _ = supervisor:terminate_child(kernel_safe_sup, ?ID),
    start_link().

init([]) ->
    ok = dev_websocket_tails:new_tables(),
    Tails = #{id => tails, start => {dev_websocket_tails, start_link, []}},
    {ok, {#{intensity => 10, period => 10}, [Tails]}}.

%%% Private functions.

child() ->
    #{
        id => ?ID,
        start => {?MODULE, start_link, []},
        restart => temporary,
        type => supervisor
    }.
