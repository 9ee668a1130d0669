%%% @doc All calls of HyperBEAM but those of its cache (`dev_websocket_cache').
%%% Everything here works without it too: then nothing can be loaded or verified,
%%% and options are read from the map as it is.
%%%
%%% A function is called only where it exists (`erlang:function_exported/3'), as
%%% nodes of different age have different ones. No call may end the caller: one
%%% that raises counts as not known.
-module(dev_websocket_node).
-export([is_present/0, has_module/1, option/3, own_options/1, running_node/0]).
-export([loaded/2, ensure/2, text/1]).
-export([signers/2, is_valid/2, committed/2, id/2, committers/1]).

%% @doc A node option by its name as an atom, from the node message alone. On a
%% node `hb_opts' finds it however it is spelled there.
-spec option(atom(), term(), term()) -> term().
option(Name, Default, Opts) ->
    Own = case Opts of
        #{Name := Value} -> Value;
        _ -> Default
    end,
    call(hb_opts, get, [[Name, Own, Opts]], Own).

%% @doc Whether HyperBEAM's code is in this VM. Its modules may not be loaded yet.
-spec is_present() -> boolean().
is_present() ->
    has_module(hb_opts) andalso has_module(hb_http_server).

%% @doc Whether a module can be called. Loads it where that has not happened.
-spec has_module(module()) -> boolean().
has_module(Module) ->
    erlang:module_loaded(Module) orelse element(1, code:ensure_loaded(Module)) =:= module.

%% @doc The node's own options. A request may bring others: then it names the server that
%% took it, which has the node's. `start' hooks are given them before there is a server.
-spec own_options(term()) -> {node, term()} | {unknown, term()}.
own_options(Opts) ->
    case option(http_server, none, Opts) of
        none -> {unknown, Opts};
        Server ->
            case server_options(Server) of
                Own when is_map(Own) -> {node, Own};
                none -> {unknown, Opts}
            end
    end.

%% @doc The options of the node that runs in this VM, of its first server.
-spec running_node() -> {ok, map()} | none.
running_node() ->
    Servers = case call(ranch, info, [[]], []) of
        Info when is_map(Info) -> maps:keys(Info);
        Info when is_list(Info) -> [Ref || {Ref, _} <- Info];
        _ -> []
    end,
    Found = [Own || Server <- lists:sort(Servers), is_binary(Server), Own <- [server_options(Server)], is_map(Own)],
    case Found of
        [Own | _] -> {ok, Own};
        [] -> none
    end.

server_options(Server) ->
    case call(hb_http_server, get_opts, [[#{http_server => Server, <<"http-server">> => Server}]], none) of
        Own when is_map(Own) -> Own;
        _ -> none
    end.

%% @doc The value that a link stands for, not looked into. A link that cannot be
%% loaded stays one.
-spec ensure(term(), term()) -> term().
ensure({link, _, _} = Link, Opts) -> call(hb_cache, ensure_loaded, [[Link, Opts], [Link]], Link);
ensure(Value, _Opts) -> Value.

%% @doc A value with everything in it loaded, as far as that is possible. What has
%% no link inside is not copied.
-spec loaded(term(), term()) -> term().
loaded(Value, Opts) ->
    case has_link(Value) of
        true -> call(hb_cache, ensure_all_loaded, [[Value, Opts], [Value]], Value);
        false -> Value
    end.

has_link({link, _, _}) -> true;
has_link(Map) when is_map(Map) -> has_link_in(maps:next(maps:iterator(Map)));
has_link([Head | Tail]) -> has_link(Head) orelse has_link(Tail);
has_link(_) -> false.

has_link_in(none) -> false;
has_link_in({_, Value, Rest}) -> has_link(Value) orelse has_link_in(maps:next(Rest)).

%% @doc A scalar as the store spells it. Anything else stays what it is.
-spec text(term()) -> term().
text(Value) when is_integer(Value) -> integer_to_binary(Value);
text(Value) when is_atom(Value) -> atom_to_binary(Value, utf8);
text(Value) -> Value.

%% @doc Whether all signatures of a message are valid.
-spec is_valid(term(), term()) -> boolean().
is_valid(Msg, Opts) ->
    call(hb_message, verify, [[Msg, all, Opts], [Msg, all], [Msg]], false) =:= true.

%% @doc The addresses that signed a message, when all of its signatures are valid.
-spec signers(term(), term()) -> [binary()].
signers(Msg, Opts) ->
    case committers(Msg) of
        [] ->
            [];
        _ ->
            case is_valid(Msg, Opts) of
                true ->
                    Signers = call(hb_message, signers, [[Msg, Opts], [Msg]], []),
                    [Signer || is_list(Signers), Signer <- Signers, is_binary(Signer)];
                false ->
                    []
            end
    end.

%% @doc The message with nothing but what its signatures cover, or `error'.
-spec committed(map(), term()) -> {ok, map()} | error.
committed(Msg, Opts) ->
    case call(hb_message, with_only_committed, [[Msg, Opts], [Msg]], error) of
        {ok, Only} when is_map(Only) -> {ok, Only};
        _ -> error
    end.

%% @doc The addresses that its commitments name, verified or not.
-spec committers(term()) -> [binary()].
committers(#{<<"commitments">> := Commitments}) when is_map(Commitments) ->
    lists:usort([
        Committer
     ||
        #{<<"committer">> := Committer} <- maps:values(Commitments), is_binary(Committer)
    ]);
committers(_) ->
    [].

%% @doc The id of a message that was signed, for a process message the id of the
%% process. With one signature that is its commitment's; a node puts several
%% together by a rule of its own.
-spec id(term(), term()) -> {ok, binary()} | error.
id(#{<<"commitments">> := Commitments} = Msg, Opts) when is_map(Commitments) ->
    case [Id || {Id, #{<<"committer">> := _}} <- maps:to_list(Commitments)] of
        [Id] when is_binary(Id) -> {ok, Id};
        _ -> computed_id(Msg, Opts)
    end;
id(Msg, Opts) when is_map(Msg) ->
    computed_id(Msg, Opts);
id(_, _) ->
    error.

computed_id(Msg, Opts) ->
    case call(hb_message, id, [[Msg, all, Opts], [Msg, all]], error) of
        Id when is_binary(Id) -> {ok, Id};
        _ -> error
    end.

%%% Private functions.

%% @doc Call the first of these that this node has.
call(_Module, _Function, [], Unknown) ->
    Unknown;
call(Module, Function, [Arguments | Older], Unknown) ->
    case erlang:function_exported(Module, Function, length(Arguments)) of
        true ->
            try apply(Module, Function, Arguments)
            catch _:_ -> Unknown
            end;
        false ->
            call(Module, Function, Older, Unknown)
    end.
