%%% @doc Requests that reach the device's keys. Anybody can make one with any content, so
%%% this module decides which parts of it are used: the message of a cast, and ids of
%%% processes as hints.
%%%
%%% ## Casts
%%%
%%% A body of a JSON type is the message. Otherwise the request itself is, without the keys
%%% of its transport. Topics in the query or in a header are explicit topics in both cases.
%%% The node option `websocket_cast' sets the authorization:
%%%
%%% | value | allowed casts |
%%% |---|---|
%%% | `open' | All. The default. |
%%% | `signed' | Requests with valid signatures. |
%%% | `operator' | Requests that the node's own address signed. |
%%% | `off' | None. |
%%%
%%% The provenance of such a message is `source: "http"', with the addresses of its valid
%%% signatures as `from'. It never gets a reserved topic. Of a signed request only the part
%%% that the signatures cover is published.
%%%
%%% ## Hints
%%%
%%% A hint is the id of a process that may have a new slot. It only makes the tails server
%%% look at the cache sooner. At most 64 hints wait, and the first wakes the server. While
%%% no client is interested in processes, a hint costs one lookup in a table. No function
%%% here raises, waits or loads.
-module(dev_websocket_request).
-export([cast/2, json/1, answer/3]).
-export([hint/1, hint_from_state/2, hint_from_response/2]).
-export([new_hint_table/0, want_hints/1, are_hints_wanted/0, take_hints/0]).

-define(TOPIC_KEYS, [<<"topic">>, <<"topics">>]).
%% The table and the server are shared by all copies of the device.
-define(TABLE, hb_websocket_hints).
-define(SERVER, hb_websocket_tails).
%% Hints that wait at most.
-define(MAX_HINTS, 64).
%% Bytes of a path that are searched for ids, and ids that are taken from it.
-define(MAX_PATH, 4096).
-define(MAX_IDS, 4).

%%% Casts.

%% @doc Publish the message of a request, or return the reason against it.
-spec cast(term(), term()) -> ok | {error, map()}.
cast(Request, Opts) when is_map(Request) ->
    case policy(Opts) of
        off ->
            refuse(403, <<"cast_off">>, <<"websocket_cast: casts over HTTP are disabled on this node">>);
        invalid ->
            refuse(403, <<"cast_off">>, <<"websocket_cast: must be open, signed, operator or off">>);
        Policy ->
            Signers = dev_websocket_node:signers(Request, Opts),
            case is_allowed(Policy, Signers, Opts) of
                true -> publish(Request, Signers, Opts);
                false when Policy =:= signed ->
                    refuse(401, <<"not_signed">>, <<"websocket_cast: this node requires a valid signature">>);
                false ->
                    refuse(403, <<"not_operator">>, <<"websocket_cast: only the node's operator may cast">>)
            end
    end;
cast(_Request, _Opts) ->
    _ = dev_websocket_engine:count_dropped(malformed),
    {error, answer(400, <<"bad_request">>, <<"request: must be a message">>)}.

%% @doc A flat object of texts and integers as JSON. No native function encodes a term that
%% is not published.
-spec json(#{binary() => binary() | integer()}) -> binary().
json(Map) ->
    Fields = [[$", Name, "\":", json_value(Value)] || {Name, Value} <- lists:sort(maps:to_list(Map))],
    iolist_to_binary([${, lists:join($,, Fields), $}]).

%%% Hints.

%% @doc Give the id of a process that may have a new slot. Any other term is ignored.
-spec hint(term()) -> ok.
hint(Id) ->
    _ = dev_websocket_log:safely(hint, fun() -> add_hints([Id]) end, ok),
    ok.

%% @doc Take the id of the process whose state passes through the device in a stack.
-spec hint_from_state(term(), term()) -> ok.
hint_from_state(Base, Opts) ->
    _ = dev_websocket_log:safely(compute, fun() ->
        _ = dev_websocket_engine:apply_node_options(Opts),
        are_hints_wanted() andalso add_hints(process_ids(Base))
    end, ok),
    ok.

%% @doc Take the ids in the path of a request that the node has answered.
-spec hint_from_response(term(), term()) -> ok.
hint_from_response(Response, Opts) ->
    _ = dev_websocket_log:safely(response, fun() ->
        _ = dev_websocket_engine:apply_node_options(Opts),
        case Response of
            #{<<"request">> := #{<<"path">> := Path}} when is_binary(Path) ->
                are_hints_wanted() andalso add_hints(ids(prefix(Path), ?MAX_IDS));
            _ ->
                ok
        end
    end, ok),
    ok.

%% @doc Called by the supervisor, which owns the table.
-spec new_hint_table() -> ok.
new_hint_table() ->
    _ = ets:new(?TABLE, [set, named_table, public]),
    ok.

%% @doc Set whether hints are of use.
-spec want_hints(boolean()) -> ok.
want_hints(AreWanted) ->
    true = ets:insert(?TABLE, {wanted, AreWanted}),
    ok.

%% @doc Whether a client is interested in processes, so that a hint is of use.
-spec are_hints_wanted() -> boolean().
are_hints_wanted() ->
    try ets:lookup(?TABLE, wanted) =:= [{wanted, true}]
    catch error:badarg -> false
    end.

%% @doc Take the hints that wait. The next one wakes the server again.
-spec take_hints() -> [binary()].
take_hints() ->
    true = ets:delete(?TABLE, awake),
    Ids = [Id || {Id, hint} <- ets:tab2list(?TABLE)],
    lists:foreach(fun(Id) -> true = ets:delete(?TABLE, Id) end, Ids),
    Ids.

%%% Private functions.

%%% Casts.

policy(Opts) ->
    case dev_websocket_node:option(websocket_cast, open, Opts) of
        Policy when Policy =:= open; Policy =:= signed; Policy =:= operator; Policy =:= off -> Policy;
        <<"open">> -> open;
        <<"signed">> -> signed;
        <<"operator">> -> operator;
        <<"off">> -> off;
        %% A typing error must not open a node that was meant to be closed.
        _ -> invalid
    end.

is_allowed(open, _Signers, _Opts) -> true;
is_allowed(signed, Signers, _Opts) -> Signers =/= [];
is_allowed(operator, Signers, Opts) ->
    Address = dev_websocket_node:option(address, none, Opts),
    is_binary(Address) andalso lists:member(Address, Signers).

publish(Request, Signers, Opts) ->
    Provenance = provenance(Request, Signers, Opts),
    Published =
        case is_json(Request, Opts) of
            true -> publish_json(Request, Signers, Provenance, Opts);
            false -> publish_message(Request, Signers, Provenance, Opts)
        end,
    case Published of
        {error, #{}} = Refused ->
            Refused;
        {error, {bad_json, Text}} ->
            {error, answer(400, <<"bad_json">>, <<"body: ", Text/binary>>)};
        {dropped, too_large} ->
            {error, answer(413, <<"too_large">>, <<"message: exceeds max_message_bytes">>)};
        %% Published or counted. The publisher does not learn whether clients listen.
        _ ->
            ok
    end.

publish_json(Request, Signers, Provenance, Opts) ->
    case dev_websocket_node:ensure(maps:get(<<"body">>, Request), Opts) of
        Body when is_binary(Body) ->
            dev_websocket_engine:publish_json(Body, body_provenance(Request, Signers, Provenance, Opts));
        _ ->
            _ = dev_websocket_engine:count_dropped(malformed),
            {error, answer(400, <<"bad_body">>, <<"body: must be JSON text">>)}
    end.

%% @doc Signatures that do not cover the body name no sender of it.
body_provenance(Request, Signers, Provenance, Opts) ->
    case covered(Request, Signers, Provenance, Opts) of
        {#{<<"body">> := _}, Covered} -> Covered;
        {_, Covered} -> maps:remove(from, Covered)
    end.

publish_message(Request, Signers, Provenance, Opts) ->
    {Covered, Signed} = covered(Request, Signers, Provenance, Opts),
    Message = without_empty_body(maps:without(transport_keys(), Covered)),
    case map_size(maps:remove(<<"commitments">>, Message)) of
        0 ->
            _ = dev_websocket_engine:count_dropped(malformed),
            {error, answer(400, <<"empty">>, <<"message: a cast needs a body, or keys in its query or headers">>)};
        _ ->
            dev_websocket_engine:publish(loaded_if_heard(Message, Opts), Signed)
    end.

%% @doc Without an audience the message is only counted, so nothing is loaded.
loaded_if_heard(Message, Opts) ->
    case dev_websocket_engine:has_audience() of
        true -> dev_websocket_node:loaded(Message, Opts);
        false -> Message
    end.

%% @doc The part that the signatures cover, or the whole request without signatures.
covered(Request, [], Provenance, _Opts) ->
    {Request, Provenance};
covered(Request, _Signers, Provenance, Opts) ->
    case dev_websocket_node:committed(Request, Opts) of
        {ok, Only} -> {Only, Provenance};
        error -> {Request, maps:remove(from, Provenance)}
    end.

without_empty_body(#{<<"body">> := <<>>} = Message) -> maps:remove(<<"body">>, Message);
without_empty_body(Message) -> Message.

provenance(Request, Signers, Opts) ->
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

%% @doc Each key holds one topic or a list of topics.
flatten([]) -> [];
flatten([Topics | Rest]) when is_list(Topics) ->
    try Topics ++ flatten(Rest)
    catch error:badarg -> flatten(Rest)
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

%% @doc An answer in the form of the engine's own refusals.
-spec answer(integer(), binary(), binary()) -> map().
answer(Status, Code, Text) ->
    #{
        <<"status">> => Status,
        <<"content-type">> => <<"application/json">>,
        <<"body">> => json(#{<<"error">> => Code, <<"message">> => Text})
    }.

json_value(Value) when is_integer(Value) -> integer_to_binary(Value);
json_value(Text) -> [$", << <<(escape(Character))/binary>> || <<Character>> <= Text >>, $"].

escape($") -> <<"\\\"">>;
escape($\\) -> <<"\\\\">>;
escape(Character) when Character < 32 -> <<" ">>;
escape(Character) -> <<Character>>.

%%% Hints.

add_hints(Ids) ->
    lists:foreach(fun add_hint/1, [Id || are_hints_wanted(), Id <- Ids, dev_websocket_cache:is_id(Id)]).

add_hint(Id) ->
    case ets:info(?TABLE, size) =< ?MAX_HINTS of
        true ->
            _ = ets:insert(?TABLE, {Id, hint}),
            ets:insert_new(?TABLE, {awake, true}) andalso (?SERVER ! hinted);
        false ->
            hb_websocket_nif:count_result(hints_dropped)
    end.

%% @doc Find ids in a path: runs of exactly 43 characters of base64url.
ids(_Path, 0) ->
    [];
ids(Path, Left) ->
    case re:run(Path, <<"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])">>, [{capture, first, index}]) of
        {match, [{At, Length}]} ->
            <<_:At/binary, Id:Length/binary, Rest/binary>> = Path,
            [Id | ids(Rest, Left - 1)];
        nomatch ->
            []
    end.

%% @doc The ids of the process in a state. A state from the cache holds a link.
process_ids(#{<<"process">> := #{<<"commitments">> := Commitments}}) when is_map(Commitments) ->
    lists:sublist([Id || {Id, #{<<"committer">> := _}} <- maps:to_list(Commitments)], ?MAX_IDS);
process_ids(#{<<"process">> := {link, Id, _}}) when is_binary(Id) ->
    ids(prefix(Id), 1);
process_ids(_) ->
    [].

prefix(Path) -> binary:part(Path, 0, min(byte_size(Path), ?MAX_PATH)).

%% @doc Keys of a request that describe its transport, not its content.
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
