%% A peer: cowboy, as one writes it first. `pg`: subscribers are members of a process group and a cast spawns a process
%% that sends to each. `ets`: subscribers are in a table and the caller sends.
%%
%%   erl -noshell -pa ... -s bench_cowboy main pg|ets
-module(bench_cowboy).
-behaviour(cowboy_websocket).

-export([main/1, init/2, websocket_init/1, websocket_handle/2, websocket_info/2, terminate/3]).

main([Mode]) ->
    {ok, _} = application:ensure_all_started(cowboy),
    persistent_term:put(?MODULE, Mode),
    prepare(Mode),
    Routes = cowboy_router:compile([{'_', [{"/ws", ?MODULE, []}]}]),
    Transport = #{max_connections => infinity, num_acceptors => 10,
                  socket_opts => [{port, 0}, {ip, {127, 0, 0, 1}}, {backlog, 4096}, {nodelay, true}]},
    {ok, _} = cowboy:start_clear(bench, Transport, #{env => #{dispatch => Routes}, idle_timeout => infinity,
                                                     request_timeout => infinity}),
    bench_feed:serve(ranch:get_port(bench), publisher(Mode)).

prepare(pg) ->
    {ok, _} = pg:start(bench);
prepare(ets) ->
    %% The table is this process's, which lives as long as the VM.
    ets:new(bench, [duplicate_bag, public, named_table, {read_concurrency, true}, {write_concurrency, true}]).

publisher(pg) ->
    fun(Topic, Payload) -> spawn(fun() -> [Pid ! {send, Payload} || Pid <- pg:get_members(bench, Topic)] end) end;
publisher(ets) ->
    fun(Topic, Payload) -> [Pid ! {send, Payload} || {_, Pid} <- ets:lookup(bench, Topic)] end.

init(Request, _) ->
    Asked = proplists:get_value(<<"topic">>, cowboy_req:parse_qs(Request), <<>>),
    Topics = binary:split(Asked, <<",">>, [global, trim_all]),
    {cowboy_websocket, Request, Topics, #{idle_timeout => infinity}}.

websocket_init(Topics) ->
    case persistent_term:get(?MODULE) of
        pg -> [ok = pg:join(bench, Topic, self()) || Topic <- Topics];
        ets -> ets:insert(bench, [{Topic, self()} || Topic <- Topics])
    end,
    {[{text, <<"{\"type\":\"welcome\"}">>}], Topics}.

websocket_handle(_, Topics) ->
    {[], Topics}.

websocket_info({send, Payload}, Topics) ->
    {[{text, Payload}], Topics}.

%% pg finds out by itself.
terminate(_, _, Topics) ->
    case persistent_term:get(?MODULE) of
        pg -> ok;
        ets -> [ets:delete_object(bench, {Topic, self()}) || Topic <- Topics], ok
    end.
