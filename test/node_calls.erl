%%% @doc Helpers of tests of the device's keys.
-module(node_calls).
-export([cases/2, nothing_comes/1, drain/1, count/1, recorded_id/1, rename/3]).
-include_lib("eunit/include/eunit.hrl").

%% @doc Tests of a module, each with a client of everything.
cases(Module, Names) ->
    {setup,
        fun() ->
            ok = dev_websocket:stop(),
            ok = dev_websocket:start(#{}),
            {ok, #{uri := Uri}} = dev_websocket:info(),
            Uri
        end,
        fun(_) -> dev_websocket:stop() end,
        fun(Uri) ->
            [{timeout, 600, {atom_to_list(Name), fun() -> with_client(Uri, Module, Name) end}} || Name <- Names]
        end}.

%% @doc Nothing was published before this call: its cast is the next message.
nothing_comes(Client) ->
    Mark = erlang:unique_integer([positive]),
    {ok, <<"OK">>} = dev_websocket:cast(#{<<"mark">> => Mark}, #{}),
    ?assertMatch([#{<<"data">> := #{<<"mark">> := Mark}}], ws_client:messages(Client, 1)).

drain(Client) ->
    Mark = erlang:unique_integer([positive]),
    {ok, <<"OK">>} = dev_websocket:cast(#{<<"mark">> => Mark}, #{}),
    drain_to(Client, Mark).

count(Name) -> maps:get(Name, dev_websocket:stats()).

recorded_id(#{<<"base">> := Process}) ->
    {ok, Id} = dev_websocket_node:id(Process, #{}),
    Id;
recorded_id(#{<<"process">> := Process}) ->
    {ok, Id} = dev_websocket_node:id(Process, #{}),
    Id.

rename(Term, Old, New) when is_binary(Term) -> binary:replace(Term, Old, New, [global]);
rename(Term, Old, New) when is_map(Term) ->
    maps:from_list([{rename(Key, Old, New), rename(Value, Old, New)} || {Key, Value} <- maps:to_list(Term)]);
rename([Head | Tail], Old, New) -> [rename(Head, Old, New) | rename(Tail, Old, New)];
rename(Term, Old, New) when is_tuple(Term) -> list_to_tuple(rename(tuple_to_list(Term), Old, New));
rename(Term, _, _) -> Term.

%%% Private functions.

with_client(Uri, Module, Name) ->
    {ok, Client} = ws_client:connect(Uri, "topic=*"),
    #{<<"type">> := <<"connection_established">>} = ws_client:recv_json(Client),
    Module:Name(Client),
    ws_client:close(Client).

drain_to(Client, Mark) ->
    case ws_client:recv_json(Client) of
        #{<<"data">> := #{<<"mark">> := Mark}} -> ok;
        _ -> drain_to(Client, Mark)
    end.
