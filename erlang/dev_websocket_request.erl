%%% @doc A cast that comes as a request, over HTTP or from another device.
%%%
%%% A body that says it is JSON becomes the message; otherwise the request itself
%%% does, without the keys that only tell how it came. Topics that the query or a
%%% header names are explicit topics of the message in both cases.
%%%
%%% Whoever reaches the node's port can cast, unless the node option
%%% `websocket_cast' says otherwise:
%%%
%%% | value | who |
%%% |---|---|
%%% | `open' | everybody, the default |
%%% | `signed' | requests with valid signatures |
%%% | `operator' | requests that the node's own address signed |
%%% | `off' | nobody |
%%%
%%% What comes in here carries `source: "http"' and the addresses of its valid
%%% signatures as `from'. It never has topics that only the node may publish under,
%%% and of a signed message only what the signatures cover is sent.
-module(dev_websocket_request).
-export([cast/2]).

-define(TOPIC_KEYS, [<<"topic">>, <<"topics">>]).

%% @doc Send the message of a request, or say why not.
-spec cast(term(), term()) -> ok | {error, map()}.
cast(Request, Opts) when is_map(Request) ->
    case policy(Opts) of
        off ->
            refuse(403, <<"cast_off">>, <<"websocket_cast: this node takes no casts over HTTP">>);
        invalid ->
            refuse(403, <<"cast_off">>, <<"websocket_cast: must be open, signed, operator or off">>);
        Policy ->
            Signers = dev_websocket_node:signers(Request, Opts),
            case is_allowed(Policy, Signers, Opts) of
                true -> send(Request, Signers, Opts);
                false when Policy =:= signed ->
                    refuse(401, <<"not_signed">>, <<"websocket_cast: a cast needs a valid signature here">>);
                false ->
                    refuse(403, <<"not_operator">>, <<"websocket_cast: only the node's operator may cast here">>)
            end
    end;
cast(_Request, _Opts) ->
    _ = dev_websocket_engine:count_dropped(malformed),
    {error, answer(400, <<"bad_request">>, <<"request: must be a message">>)}.

%%% Private functions.

policy(Opts) ->
    case dev_websocket_node:option(websocket_cast, open, Opts) of
        Policy when Policy =:= open; Policy =:= signed; Policy =:= operator; Policy =:= off -> Policy;
        <<"open">> -> open;
        <<"signed">> -> signed;
        <<"operator">> -> operator;
        <<"off">> -> off;
        %% A typing error must not open what was meant to be closed.
        _ -> invalid
    end.

is_allowed(open, _Signers, _Opts) -> true;
is_allowed(signed, Signers, _Opts) -> Signers =/= [];
is_allowed(operator, Signers, Opts) ->
    Address = dev_websocket_node:option(address, none, Opts),
    is_binary(Address) andalso lists:member(Address, Signers).

send(Request, Signers, Opts) ->
    Origin = origin(Request, Signers, Opts),
    Sent =
        case is_json(Request, Opts) of
            true -> send_json(Request, Signers, Origin, Opts);
            false -> send_message(Request, Signers, Origin, Opts)
        end,
    case Sent of
        {error, #{}} = Refused ->
            Refused;
        {error, {bad_json, Text}} ->
            {error, answer(400, <<"bad_json">>, <<"body: ", Text/binary>>)};
        {dropped, too_large} ->
            {error, answer(413, <<"too_large">>, <<"message: larger than max_message_bytes">>)};
        %% Sent, or counted: whoever casts need not know who listens.
        _ ->
            ok
    end.

send_json(Request, Signers, Origin, Opts) ->
    case dev_websocket_node:ensure(maps:get(<<"body">>, Request), Opts) of
        Body when is_binary(Body) ->
            dev_websocket_engine:publish_json(Body, body_origin(Request, Signers, Origin, Opts));
        _ ->
            _ = dev_websocket_engine:count_dropped(malformed),
            {error, answer(400, <<"bad_body">>, <<"body: must be JSON text">>)}
    end.

%% @doc Signatures that do not cover the body say nothing about it.
body_origin(Request, Signers, Origin, Opts) ->
    case covered(Request, Signers, Origin, Opts) of
        {#{<<"body">> := _}, Signed} -> Signed;
        {_, Signed} -> maps:remove(from, Signed)
    end.

send_message(Request, Signers, Origin, Opts) ->
    {Covered, Signed} = covered(Request, Signers, Origin, Opts),
    Message = without_empty_body(maps:without(transport_keys(), Covered)),
    case map_size(maps:remove(<<"commitments">>, Message)) of
        0 ->
            _ = dev_websocket_engine:count_dropped(malformed),
            {error, answer(400, <<"empty">>, <<"message: a cast needs a body, or keys in its query or headers">>)};
        _ ->
            dev_websocket_engine:publish(loaded_if_heard(Message, Opts), Signed)
    end.

%% @doc While nobody listens, nothing is loaded: the message is only counted.
loaded_if_heard(Message, Opts) ->
    case dev_websocket_engine:has_audience() of
        true -> dev_websocket_node:loaded(Message, Opts);
        false -> Message
    end.

%% @doc What the signatures cover, if there are any.
covered(Request, [], Origin, _Opts) ->
    {Request, Origin};
covered(Request, _Signers, Origin, Opts) ->
    case dev_websocket_node:committed(Request, Opts) of
        {ok, Only} -> {Only, Origin};
        error -> {Request, maps:remove(from, Origin)}
    end.

without_empty_body(#{<<"body">> := <<>>} = Message) -> maps:remove(<<"body">>, Message);
without_empty_body(Message) -> Message.

origin(Request, Signers, Opts) ->
    Topics = [
        dev_websocket_node:loaded(maps:get(Key, Request), Opts)
     ||
        Key <- ?TOPIC_KEYS, is_map_key(Key, Request)
    ],
    Base = #{source => <<"http">>, topics => flatten(Topics)},
    case Signers of
        [] -> Base;
        _ -> Base#{from => Signers}
    end.

%% @doc Each key holds a text or a list of them.
flatten([]) -> [];
flatten([Topics | Rest]) when is_list(Topics) ->
    try Topics ++ flatten(Rest)
    catch error:_ -> flatten(Rest)
    end;
flatten([Topic | Rest]) -> [Topic | flatten(Rest)].

is_json(#{<<"content-type">> := Type, <<"body">> := Body}, Opts) when Body =/= <<>> ->
    case dev_websocket_node:ensure(Type, Opts) of
        Text when is_binary(Text) ->
            re:run(Text, <<"^\\s*application/(?:[a-z0-9.-]+\\+)?json\\s*(?:;|$)">>, [caseless, {capture, none}]) =:= match;
        _ ->
            false
    end;
is_json(_Request, _Opts) ->
    false.

refuse(Status, Code, Text) ->
    _ = dev_websocket_engine:count_dropped(refused),
    {error, answer(Status, Code, Text)}.

%% @doc An answer as the engine's own refusals are. The texts here need no escapes
%% but those of a JSON error, which quotes what it found.
answer(Status, Code, Text) ->
    #{
        <<"status">> => Status,
        <<"content-type">> => <<"application/json">>,
        <<"body">> => <<"{\"error\":\"", Code/binary, "\",\"message\":\"", (escaped(Text))/binary, "\"}">>
    }.

escaped(Text) ->
    << <<(escape(Character))/binary>> || <<Character>> <= Text >>.

escape($") -> <<"\\\"">>;
escape($\\) -> <<"\\\\">>;
escape(Character) when Character < 32 -> <<" ">>;
escape(Character) -> <<Character>>.

%% @doc Keys of a request that tell how it came, not what it says.
transport_keys() ->
    [
        <<"accept">>, <<"accept-bundle">>, <<"accept-codec">>, <<"accept-encoding">>, <<"accept-language">>,
        <<"authorization">>, <<"cache-control">>, <<"codec-device">>, <<"connection">>, <<"content-digest">>,
        <<"content-encoding">>, <<"content-length">>, <<"content-type">>, <<"cookie">>, <<"device">>, <<"dnt">>,
        <<"expect">>, <<"forwarded">>, <<"host">>, <<"if-match">>, <<"if-modified-since">>, <<"if-none-match">>,
        <<"keep-alive">>, <<"method">>, <<"origin">>, <<"path">>, <<"pragma">>, <<"priority">>, <<"proxy-authorization">>,
        <<"referer">>, <<"require-codec">>, <<"signature">>, <<"signature-input">>, <<"te">>, <<"transfer-encoding">>,
        <<"upgrade">>, <<"upgrade-insecure-requests">>, <<"user-agent">>, <<"via">>
    ].
