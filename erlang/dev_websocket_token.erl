%%% @doc Tokens for a server with `access = token'. Callers on the node ask for any grant.
%%% A wallet asks with a signed request, and gets the grants of the node option
%%% `websocket_grants', with `{address}' replaced by its address:
%%%
%%% ```
%%% websocket_grants => [<<"target:{address}">>, <<"from:{address}">>]
%%% '''
%%%
%%% A signature says nothing about its purpose, and messages of processes are public. So the
%%% signed part must have the key `websocket-token': the address of this node, a space, and
%%% the time in seconds since 1970. Without the key, anybody could send a message that a
%%% wallet signed for something else, and get the token of that wallet. Without the address,
%%% one node could use a request at another. The time may differ by 5 minutes.
%%%
%%% The engine makes its secret when the library is loaded. Tokens are therefore valid on
%%% this node until it restarts.
-module(dev_websocket_token).
-export([new/2, revoke/1, for_request/2]).

%% Life of a token in seconds by default.
-define(SECONDS, 300).
-define(GRANTS, [<<"target:{address}">>, <<"from:{address}">>]).
%% The key that a wallet signs to get a token, and the age of its value in seconds.
-define(PURPOSE, <<"websocket-token">>).
-define(MAX_AGE, 300).

%% @doc A token with grants: a list of topics and globs, or a map of `topics' and `send'.
%% The options are `sub' (`node') and `seconds' (300).
-spec new(term(), term()) -> {ok, binary()} | {error, term()}.
new(Topics, Opts) when is_list(Topics) ->
    new(#{topics => Topics}, Opts);
new(Grants, Opts) when is_map(Grants), is_map(Opts) ->
    case {unknown(Grants, [topics, send]), unknown(Opts, [sub, seconds])} of
        {[], []} ->
            sign(
                value(sub, Opts, <<"node">>),
                value(topics, Grants, []),
                value(send, Grants, false),
                value(seconds, Opts, ?SECONDS)
            );
        {[Name | _], _} ->
            bad_argument("grants have no field ~0tp", [Name]);
        {[], [Name | _]} ->
            bad_argument("options have no field ~0tp", [Name])
    end;
new(_Grants, Opts) when is_map(Opts) ->
    {error, {bad_argument, <<"grants must be a list of topics or a map">>}};
new(_Grants, _Opts) ->
    {error, {bad_argument, <<"options must be a map">>}}.

%% @doc Revoke a token by its `jti', or all tokens of a `sub' that were issued up to now or
%% up to `issued_before', in seconds since 1970.
-spec revoke(term()) -> ok | {error, term()}.
revoke(Id) when is_binary(Id) ->
    revoke(#{jti => Id});
revoke(Revoked) when is_map(Revoked) ->
    Jti = value(jti, Revoked, none),
    Sub = value(sub, Revoked, none),
    Until = value(issued_before, Revoked, now),
    case unknown(Revoked, [jti, sub, issued_before]) of
        [Name | _] ->
            bad_argument("a revocation has no field ~0tp", [Name]);
        [] when is_binary(Jti), Sub =:= none, Until =:= now ->
            call(fun() -> hb_websocket_nif:revoke_token(Jti) end);
        [] when is_binary(Sub), Jti =:= none ->
            call(fun() -> hb_websocket_nif:revoke_subject(Sub, Until) end);
        [] ->
            {error, {bad_argument, <<"a revocation needs either jti or sub, as a binary">>}}
    end;
revoke(_Revoked) ->
    {error, {bad_argument, <<"a revocation must be a binary or a map">>}}.

%% @doc A token for the signers of a request, or the reason against it: a status, a code and
%% a text.
-spec for_request(term(), term()) -> {ok, binary()} | {error, {integer(), binary(), binary()}}.
for_request(Request, Opts) when is_map(Request) ->
    case dev_websocket_node:signers(Request, Opts) of
        [] ->
            {error, {401, <<"not_signed">>, <<"token: the request needs a valid signature">>}};
        Signers ->
            Address = address(Opts),
            case is_meant(Request, Address, Opts) of
                true ->
                    for_signers(lists:usort(Signers), Opts);
                false ->
                    {error, {401, <<"not_meant">>,
                        <<"token: the signature must cover the key websocket-token with \"", Address/binary,
                            " SECONDS\", where SECONDS is the time since 1970 within 5 minutes">>}}
            end
    end;
for_request(_Request, _Opts) ->
    {error, {400, <<"bad_request">>, <<"request: must be a message">>}}.

%%% Private functions.

for_signers([Signer | _] = Signers, Opts) ->
    case dev_websocket_node:loaded(dev_websocket_node:option(websocket_grants, ?GRANTS, Opts), Opts) of
        Grants when is_list(Grants) ->
            Topics = [of_address(Grant, Address) || Address <- Signers, Grant <- Grants],
            case sign(Signer, Topics, false, ?SECONDS) of
                {ok, Token} -> {ok, Token};
                {error, {bad_argument, Text}} -> {error, {500, <<"bad_grants">>, <<"websocket_grants: ", Text/binary>>}};
                {error, _} -> {error, {503, <<"not_running">>, <<"the WebSocket server is not running">>}}
            end;
        _ ->
            {error, {500, <<"bad_grants">>, <<"websocket_grants: must be a list of topics">>}}
    end.

of_address(Grant, Address) when is_binary(Grant) ->
    binary:replace(Grant, <<"{address}">>, Address, [global]);
of_address(Grant, _Address) ->
    Grant.

%% @doc Whether the signatures cover the purpose of the request.
is_meant(Request, Address, Opts) ->
    case dev_websocket_node:committed(Request, Opts) of
        {ok, #{?PURPOSE := Purpose}} ->
            Size = byte_size(Address),
            case dev_websocket_node:ensure(Purpose, Opts) of
                <<Address:Size/binary, " ", Seconds/binary>> -> is_now(Seconds);
                _ -> false
            end;
        _ ->
            false
    end.

is_now(Text) ->
    try abs(binary_to_integer(Text) - erlang:system_time(second)) =< ?MAX_AGE
    catch error:badarg -> false
    end.

%% @doc The address of the node, by which its users know it.
address(Opts) ->
    case dev_websocket_node:option(address, none, Opts) of
        Address when is_binary(Address) -> Address;
        _ -> <<"node">>
    end.

sign(Sub, Topics, Send, Seconds) ->
    call(fun() -> hb_websocket_nif:token(Sub, Topics, Send, Seconds) end).

call(Function) ->
    dev_websocket_engine:call_started(Function).

%% @doc A field by its name as an atom or a binary.
value(Name, Map, Default) ->
    case Map of
        #{Name := Value} -> Value;
        _ -> maps:get(atom_to_binary(Name, utf8), Map, Default)
    end.

unknown(Map, Names) ->
    maps:keys(maps:without(Names ++ [atom_to_binary(Name, utf8) || Name <- Names], Map)).

bad_argument(Format, Args) ->
    {error, {bad_argument, unicode:characters_to_binary(io_lib:format(Format, Args, [{chars_limit, 100}]))}}.
