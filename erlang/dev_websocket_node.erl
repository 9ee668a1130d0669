%%% @doc The only place that calls HyperBEAM. Everything here works without it
%%% too: then nothing can be loaded or verified, and options are read from the
%%% map as it is.
%%%
%%% A call is made only where the function is there (`erlang:function_exported/3'),
%%% as nodes of different age have different ones, and none of them may end the
%%% caller: what raises counts as not known.
-module(dev_websocket_node).
-export([option/3, leaves_hashpath/1, loaded/2, ensure/2]).
-export([signers/2, committed/2, id/2, committers/1]).

%% @doc A node option by its name as an atom, from the node message alone. On a
%% node `hb_opts' finds it however it is spelled there.
-spec option(atom(), term(), term()) -> term().
option(Name, Default, Opts) ->
    Own = case Opts of
        #{Name := Value} -> Value;
        _ -> Default
    end,
    call(hb_opts, get, [[Name, Own, Opts]], Own).

%% @doc Whether a call is made so that it leaves no trace in a hashpath, as a node
%% calls its hooks. Without a node there is nothing to tell that by.
-spec leaves_hashpath(term()) -> boolean().
leaves_hashpath(Opts) ->
    not erlang:function_exported(hb_opts, get, 3) orelse option(hashpath, update, Opts) =:= ignore.

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

%% @doc The addresses that signed a message, when all of its signatures are valid.
-spec signers(term(), term()) -> [binary()].
signers(Msg, Opts) ->
    case committers(Msg) of
        [] ->
            [];
        _ ->
            case call(hb_message, verify, [[Msg, all, Opts], [Msg, all], [Msg]], false) of
                true ->
                    Signers = call(hb_message, signers, [[Msg, Opts], [Msg]], []),
                    [Signer || is_list(Signers), Signer <- Signers, is_binary(Signer)];
                _ ->
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
