%%% @doc Helpers of tests of followed processes: a server, a node that stands in, and clients.
-module(followed).
-include_lib("eunit/include/eunit.hrl").
-export([cases/2, cases/3, results/2, frames/2, slots/1, nothing_comes/1, until/1, tails/0, restart_tails/0, count/1]).

%% @doc Tests of a module, each with a store of its own on a node of its own.
cases(Module, Names) ->
    cases(Module, Names, 600).

%% @doc The same, with so many seconds for each.
cases(Module, Names, Seconds) ->
    {foreach,
        fun() ->
            _ = persistent_term:erase({hb_websocket_nif, node_settings}),
            %% On a slow machine a client waits unread for longer than two pings.
            fresh_server:start(#{tail_interval => 20, ping_interval => 600_000}),
            restart_tails()
        end,
        fun(_) ->
            _ = persistent_term:erase({hb_websocket_nif, node_settings}),
            dev_websocket:stop()
        end,
        [
            {timeout, Seconds, {atom_to_list(Name), fun() -> with_node(Module, Name) end}}
         ||
            Name <- Names
        ]}.

with_node(Module, Name) ->
    Store = stand_in:empty(),
    stand_in:with(stand_in:options(Store), fun() -> Module:Name(Store) end).

%% @doc The next frames that are results, with their slots in order.
results(Client, Slots) ->
    [
        begin
            #{<<"data">> := #{<<"type">> := <<"result">>}} = Frame = next_result(Client),
            ?assertEqual({slot, Slot}, {slot, maps:get(<<"slot">>, Frame)}),
            Frame
        end
     ||
        Slot <- Slots
    ].

next_result(Client) ->
    case ws_client:recv_json(Client) of
        #{<<"data">> := #{<<"type">> := <<"result">>}} = Frame -> Frame;
        #{<<"type">> := <<"message">>} -> next_result(Client);
        Other -> error({no_result, Other})
    end.

%% @doc The next frames of any type.
frames(Client, Count) ->
    [ws_client:recv_json(Client) || _ <- lists:seq(1, Count)].

%% @doc The slots of frames.
slots(Frames) -> [maps:get(<<"slot">>, Frame) || Frame <- Frames].

%% @doc Nothing was published before this call: the pong is the next frame.
nothing_comes(Client) ->
    Mark = erlang:unique_integer([positive]),
    ok = ws_client:send_text(Client, io_lib:format("{\"type\":\"ping\",\"id\":~b}", [Mark])),
    ?assertMatch(#{<<"type">> := <<"pong">>, <<"id">> := Mark}, ws_client:recv_json(Client)).

%% @doc Wait for a condition that sends no message.
until(Holds) ->
    case Holds() of
        true -> ok;
        false ->
            receive after 5 -> until(Holds) end
    end.

%% @doc The tails server, after it has handled all earlier messages.
tails() ->
    Server = whereis(hb_websocket_tails),
    _ = sys:get_state(Server),
    Server.

%% @doc A new supervisor with a new server and empty tables.
restart_tails() ->
    _ = supervisor:terminate_child(kernel_safe_sup, {hb_websocket_nif, supervisor}),
    _ = dev_websocket:config(),
    until(fun() -> whereis(hb_websocket_tails) =/= undefined end),
    tails().

count(Name) -> maps:get(Name, dev_websocket:stats()).
