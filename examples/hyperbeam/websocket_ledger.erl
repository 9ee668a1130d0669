%%% @doc A process on the node of this VM, and transfers for it: one every two
%%% seconds, each computed because a client asks for its slot over HTTP.
-module(websocket_ledger).
-export([start/2, send/4]).

%% @doc Start a process; its id. It needs nothing of the device: whoever subscribes to it
%% gets what the node computes.
start(Node, Program) ->
    Opts = hb_http_server:get_opts(#{http_server => hb:address()}),
    {ok, Lua} = file:read_file(Program),
    Process = hb_message:commit(#{
        <<"device">> => <<"process@1.0">>,
        <<"type">> => <<"Process">>,
        <<"scheduler-device">> => <<"scheduler@1.0">>,
        <<"scheduler-location">> => hb:address(),
        <<"execution-device">> => <<"stack@1.0">>,
        <<"device-stack">> => [<<"lua@5.3a">>],
        <<"module">> => #{<<"content-type">> => <<"application/lua">>, <<"body">> => Lua},
        <<"random-seed">> => rand:uniform(1000000000)
    }, Opts),
    {ok, _} = hb_cache:write(Process, Opts),
    Id = hb_message:id(Process, all, Opts),
    spawn(fun() -> transfers(Node, Process, Id, 0, Opts) end),
    Id.

%% @doc Schedule a message of the node's own for a process.
send(Message, Process, Id, Opts) ->
    Signed = hb_message:commit(Message#{<<"target">> => Id, <<"type">> => <<"Message">>}, Opts),
    Request = #{<<"path">> => <<"schedule">>, <<"method">> => <<"POST">>, <<"body">> => Signed},
    hb_ao:resolve(Process, hb_message:commit(Request, Opts), Opts#{hashpath => ignore}).

%%% Private functions.

transfers(Node, Process, Id, Slot, Opts) ->
    timer:sleep(2000),
    Quantity = integer_to_binary(rand:uniform(100)),
    {ok, _} = send(#{<<"action">> => <<"Transfer">>, <<"quantity">> => Quantity}, Process, Id, Opts),
    Path = <<"/", Id/binary, "~process@1.0/compute&slot=", (integer_to_binary(Slot))/binary>>,
    {ok, _} = httpc:request(get, {uri_string:resolve(Path, Node), []}, [], []),
    transfers(Node, Process, Id, Slot + 1, Opts).
