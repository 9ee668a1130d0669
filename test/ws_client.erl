%%% @doc A WebSocket client for tests, over gen_tcp alone and able to misbehave.
%%%
%%% A client is its socket. Bytes that were read but not used yet wait in the
%%% dictionary of the process that reads, so one process reads one client.
-module(ws_client).
-export([connect/1, connect/2, connect/3, connect_raw/2, request/3]).
-export([send_text/2, send_binary/2, send_json/2, ping/2, pong/2, close/1, close/3]).
-export([send_frame/2, send_raw/2, abort/1]).
-export([recv/1, recv/2, recv_text/1, recv_json/1, messages/2, is_open/1]).
-export([frame/1, parse/1]).

-define(DEADLINE, 10000).
-define(KEY, <<"dGhlIHNhbXBsZSBub25jZQ==">>).
-define(ACCEPT, <<"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=">>).

-type client() :: gen_tcp:socket().
-type frame() ::
    {text, binary()} | {binary, binary()} | {ping, binary()} | {pong, binary()}
    | {close, non_neg_integer() | none, binary()}.

%% @doc Connect to a `ws://' URI, as `info/0' of the device gives it.
-spec connect(binary() | string()) -> {ok, client()} | {error, term()}.
connect(Uri) ->
    connect(Uri, "").

%% @doc Connect with a query.
-spec connect(binary() | string(), iodata()) -> {ok, client()} | {error, term()}.
connect(Uri, Query) ->
    connect(Uri, Query, []).

%% @doc Connect with a query and more headers. A refusal is
%% `{error, {http, Status, Headers, Body}}'.
-spec connect(binary() | string(), iodata(), [{iodata(), iodata()}]) ->
    {ok, client()} | {error, term()}.
connect(Uri, Query, Headers) ->
    {Host, Port, Path} = split(Uri),
    Upgrade = [
        {"Upgrade", "websocket"},
        {"Connection", "Upgrade"},
        {"Sec-WebSocket-Version", "13"},
        {"Sec-WebSocket-Key", ?KEY}
    ],
    Target = [Path, [["?", Query] || iolist_size(Query) > 0]],
    case request({Host, Port}, Target, Upgrade ++ Headers) of
        {ok, Socket, 101, Answered, Rest} ->
            {_, ?ACCEPT} = lists:keyfind(<<"sec-websocket-accept">>, 1, Answered),
            put({?MODULE, Socket}, Rest),
            {ok, Socket};
        {ok, Socket, Status, Answered, Rest} ->
            Body = read_body(Socket, Answered, Rest),
            gen_tcp:close(Socket),
            {error, {http, Status, Answered, Body}};
        {error, Reason} ->
            {error, Reason}
    end.

%% @doc Connect for messages alone. Nothing tells such a client that it is
%% subscribed, but a pong comes after that.
-spec connect_raw(binary() | string(), iodata()) -> client().
connect_raw(Uri, Query) ->
    {ok, Socket} = connect(Uri, [Query, "&format=raw"]),
    true = is_open(Socket),
    Socket.

%% @doc Send a GET request and read the head of its answer.
-spec request({string(), inet:port_number()}, iodata(), [{iodata(), iodata()}]) ->
    {ok, client(), integer(), [{binary(), binary()}], binary()} | {error, term()}.
request({Host, Port}, Target, Headers) ->
    case gen_tcp:connect(Host, Port, [binary, {active, false}, {nodelay, true}], ?DEADLINE) of
        {ok, Socket} ->
            Lines = [[Name, ": ", Value, "\r\n"] || {Name, Value} <- Headers],
            ok = gen_tcp:send(Socket, ["GET ", Target, " HTTP/1.1\r\nHost: ", Host, "\r\n", Lines, "\r\n"]),
            read_head(Socket, <<>>);
        {error, Reason} ->
            {error, Reason}
    end.

%% @doc Send a text frame.
send_text(Socket, Text) -> send_frame(Socket, #{opcode => 1, payload => Text}).

%% @doc Send a binary frame.
send_binary(Socket, Bytes) -> send_frame(Socket, #{opcode => 2, payload => Bytes}).

%% @doc Send a text frame of flat JSON: a map of texts, integers and lists of texts.
send_json(Socket, Map) -> send_text(Socket, json(Map)).

%% @doc Send a ping.
ping(Socket, Payload) -> send_frame(Socket, #{opcode => 9, payload => Payload}).

%% @doc Send a pong.
pong(Socket, Payload) -> send_frame(Socket, #{opcode => 10, payload => Payload}).

%% @doc Begin the closing handshake without a code.
close(Socket) -> send_frame(Socket, #{opcode => 8, payload => <<>>}).

%% @doc Begin or end the closing handshake.
close(Socket, Code, Reason) ->
    send_frame(Socket, #{opcode => 8, payload => [<<Code:16>>, Reason]}).

%% @doc Send a frame, also a wrong one.
send_frame(Socket, Options) -> gen_tcp:send(Socket, frame(Options)).

%% @doc Send bytes.
send_raw(Socket, Bytes) -> gen_tcp:send(Socket, Bytes).

%% @doc Be gone without a word.
abort(Socket) ->
    ok = inet:setopts(Socket, [{linger, {true, 0}}]),
    gen_tcp:close(Socket).

%% @doc The next frame. The server ends the connection: `closed'.
-spec recv(client()) -> frame() | closed | timeout.
recv(Socket) ->
    recv(Socket, ?DEADLINE).

-spec recv(client(), timeout()) -> frame() | closed | timeout.
recv(Socket, Timeout) ->
    Buffer =
        case get({?MODULE, Socket}) of
            undefined -> <<>>;
            Kept -> Kept
        end,
    recv(Socket, Buffer, deadline(Timeout)).

%% @doc The next text frame, decoded.
-spec recv_json(client()) -> term().
recv_json(Socket) ->
    json_reader:decode(recv_text(Socket)).

%% @doc The text of the next text frame. Server pings are answered on the way.
-spec recv_text(client()) -> binary().
recv_text(Socket) ->
    case recv(Socket) of
        {text, Text} ->
            Text;
        {ping, Payload} ->
            ok = pong(Socket, Payload),
            recv_text(Socket);
        Other ->
            error({no_text_frame, Other})
    end.

%% @doc The next so many frames of type `message'; any other text frame is an error.
-spec messages(client(), non_neg_integer()) -> [map()].
messages(_Socket, 0) ->
    [];
messages(Socket, Count) ->
    #{<<"type">> := <<"message">>} = Message = recv_json(Socket),
    [Message | messages(Socket, Count - 1)].

%% @doc Whether the server answers a ping. Frames before the pong are dropped.
-spec is_open(client()) -> boolean().
is_open(Socket) ->
    Payload = integer_to_binary(erlang:unique_integer([positive])),
    ping(Socket, Payload) =:= ok andalso is_answered(Socket, Payload).

%% @doc A frame as bytes: `opcode', `payload', and `fin' (true), `rsv' (0), `mask' (true).
-spec frame(map()) -> iodata().
frame(#{opcode := Opcode, payload := Payload} = Options) ->
    Bytes = iolist_to_binary(Payload),
    Fin = bit(maps:get(fin, Options, true)),
    Rsv = maps:get(rsv, Options, 0),
    Masked = maps:get(mask, Options, true),
    Length =
        case byte_size(Bytes) of
            Size when Size < 126 -> <<Size:7>>;
            Size when Size < 65536 -> <<126:7, Size:16>>;
            Size -> <<127:7, Size:64>>
        end,
    Head = <<Fin:1, Rsv:3, Opcode:4, (bit(Masked)):1, Length/bitstring>>,
    case Masked of
        true ->
            Mask = rand:bytes(4),
            [Head, Mask, mask(Bytes, Mask)];
        false ->
            [Head, Bytes]
    end.

%% @doc Take one frame of a server from the front: unmasked, whole, no reserved bits.
-spec parse(binary()) -> {frame(), binary()} | more.
parse(<<1:1, 0:3, Opcode:4, 0:1, 127:7, Size:64, Payload:Size/binary, Rest/binary>>) when Size > 65535 ->
    {typed(Opcode, Payload), Rest};
parse(<<1:1, 0:3, Opcode:4, 0:1, 126:7, Size:16, Payload:Size/binary, Rest/binary>>) when Size > 125 ->
    {typed(Opcode, Payload), Rest};
parse(<<1:1, 0:3, Opcode:4, 0:1, Size:7, Payload:Size/binary, Rest/binary>>) when Size < 126 ->
    {typed(Opcode, Payload), Rest};
parse(<<Flags:4, _:4, Masked:1, _/bitstring>>) when Flags =/= 8; Masked =/= 0 ->
    error(bad_server_frame);
parse(_) ->
    more.

%%% Private functions.

typed(1, Text) -> {text, Text};
typed(2, Bytes) -> {binary, Bytes};
typed(8, <<>>) -> {close, none, <<>>};
typed(8, <<Code:16, Reason/binary>>) -> {close, Code, Reason};
typed(9, Payload) -> {ping, Payload};
typed(10, Payload) -> {pong, Payload}.

recv(Socket, Buffer, Deadline) ->
    case parse(Buffer) of
        {Frame, Rest} ->
            put({?MODULE, Socket}, Rest),
            Frame;
        more ->
            case gen_tcp:recv(Socket, 0, left(Deadline)) of
                {ok, Bytes} ->
                    recv(Socket, <<Buffer/binary, Bytes/binary>>, Deadline);
                {error, timeout} ->
                    put({?MODULE, Socket}, Buffer),
                    timeout;
                {error, _} ->
                    put({?MODULE, Socket}, Buffer),
                    closed
            end
    end.

is_answered(Socket, Payload) ->
    case recv(Socket) of
        {pong, Payload} -> true;
        closed -> false;
        timeout -> false;
        {close, _, _} -> false;
        _ -> is_answered(Socket, Payload)
    end.

read_head(Socket, Buffer) ->
    case binary:split(Buffer, <<"\r\n\r\n">>) of
        [Head, Rest] ->
            [<<"HTTP/1.1 ", Status:3/binary, _/binary>> | Lines] = binary:split(Head, <<"\r\n">>, [global]),
            Headers = [
                {string:lowercase(Name), string:trim(Value)}
             ||
                [Name, Value] <- [binary:split(Line, <<":">>) || Line <- Lines]
            ],
            {ok, Socket, binary_to_integer(Status), Headers, Rest};
        [_] ->
            case gen_tcp:recv(Socket, 0, ?DEADLINE) of
                {ok, Bytes} ->
                    read_head(Socket, <<Buffer/binary, Bytes/binary>>);
                {error, Reason} ->
                    gen_tcp:close(Socket),
                    {error, Reason}
            end
    end.

read_body(Socket, Headers, Begun) ->
    Length = binary_to_integer(proplists:get_value(<<"content-length">>, Headers, <<"0">>)),
    case Length - byte_size(Begun) of
        Left when Left > 0 ->
            {ok, Bytes} = gen_tcp:recv(Socket, Left, ?DEADLINE),
            <<Begun/binary, Bytes/binary>>;
        _ ->
            Begun
    end.

split(Uri) ->
    #{host := Host, port := Port, path := Path} = uri_string:parse(unicode:characters_to_list(Uri)),
    {Host, Port, Path}.

mask(Bytes, Mask) ->
    Size = byte_size(Bytes),
    crypto:exor(Bytes, binary:part(binary:copy(Mask, Size div 4 + 1), 0, Size)).

bit(true) -> 1;
bit(false) -> 0.

json(Map) when is_map(Map) ->
    ["{", lists:join(",", [[json(Key), ":", json(Value)] || {Key, Value} <- maps:to_list(Map)]), "}"];
json(Items) when is_list(Items) ->
    ["[", lists:join(",", [json(Item) || Item <- Items]), "]"];
json(Number) when is_integer(Number) ->
    integer_to_binary(Number);
json(Text) when is_binary(Text) ->
    [$", string:replace(string:replace(Text, "\\", "\\\\", all), "\"", "\\\"", all), $"].

deadline(infinity) -> infinity;
deadline(Timeout) -> erlang:monotonic_time(millisecond) + Timeout.

left(infinity) -> infinity;
left(Deadline) -> max(0, Deadline - erlang:monotonic_time(millisecond)).
