%%% @doc Messages of the cache, proven whole. The only way to content that is published.
%%%
%%% The file store of a node rewrites shared content: it truncates a file and fills it
%%% again, and deletes a link and makes it again. Equal content has one place, so any
%%% computation with an equal result makes a message incomplete for a moment. Reading it
%%% then raises nothing: a key is missing, or its value is empty or cut off.
%%%
%%% But the place of a message is its content id, which the node computed over all of its
%%% keys, with the ids of the messages inside it. So all keys are read, the node computes
%%% the id again, and a message with another id is read again at once, three times. After
%%% that the call raises, and the caller tries later. The returned content is the one that
%%% was compared with the id; nothing is read again after that.
%%%
%%% Signatures are no part of a content id. Each one is a message with an id of its own, but
%%% nothing proves how many there are. A message that seems to have none is looked at again.
-module(dev_websocket_whole).
-export([root/2, message/2, find/2, open/2, load/3, load_all/2, committers/2]).

%% Readings of a message before the call raises.
-define(TRIES, 3).
%% Names of which one is left out in turn.
-define(MAX_VARIANTS, 8).
%% Signatures that are read: one tells the signer, and two that there is none alone.
-define(MAX_SIGNERS, 2).
%% More bytes than a message has.
-define(ALL, 1 bsl 60).

%% @doc All keys of a message, to read references from.
-spec root(dev_websocket_cache:cache(), dev_websocket_cache:root()) -> dev_websocket_cache:root().
root(Cache, Root) ->
    case dev_websocket_cache:path(Root) of
        {ok, Path} ->
            {_, Keys} = proven(Cache, Path, ?TRIES, none),
            {whole, Keys};
        %% A newer node has read it already, and nobody knows its id.
        none ->
            Root
    end.

%% @doc The message at a path, with links to the messages inside it. Its signatures are part
%% of it if it is linked by a signed id.
-spec message(dev_websocket_cache:cache(), binary()) -> map() | list().
message(Cache, Path) ->
    {Place, Keys} = proven(Cache, Path, ?TRIES, none),
    Message = structured(Cache, Keys),
    case dev_websocket_cache:is_id(Path) andalso Path =/= Place andalso is_map(Message) of
        true -> Message#{<<"commitments">> => commitments(Cache, Path, <<Place/binary, "/commitments">>, ?TRIES)};
        false -> Message
    end.

%% @doc The message at a path, or `missing' if nothing is there.
-spec find(dev_websocket_cache:cache(), binary()) -> map() | list() | missing.
find(Cache, Path) ->
    case dev_websocket_cache:is_stored(Cache, Path) of
        true -> message(Cache, Path);
        false -> missing
    end.

%% @doc The value of a link; links inside it stay links. Other values are returned as they are.
-spec open(dev_websocket_cache:cache(), term()) -> term().
open(Cache, {link, Ref, _} = Link) when is_binary(Ref) ->
    case dev_websocket_cache:target(Cache, Link) of
        {link, Id} -> message(Cache, Id);
        value -> dev_websocket_cache:ensure(Cache, Link)
    end;
open(_Cache, Value) ->
    Value.

%% @doc A value with its links loaded, up to `Budget' bytes, and the bytes left. Parts that
%% do not fit, or lie too deep, stay links.
-spec load(dev_websocket_cache:cache(), term(), integer()) -> {term(), integer()}.
load(Cache, Value, Budget) ->
    dev_websocket_node:load_within(Value, Budget, fun(Link) -> open(Cache, Link) end).

%% @doc A value with all of its links loaded.
-spec load_all(dev_websocket_cache:cache(), term()) -> term().
load_all(Cache, Value) ->
    {Loaded, _} = load(Cache, Value, ?ALL),
    Loaded.

%% @doc Signatures of a message, at most two: ids of its commitments with their signers. Equal
%% messages share one place, so one place can have thousands of them.
-spec committers(dev_websocket_cache:cache(), dev_websocket_cache:root() | missing) -> [{binary(), binary()}].
committers(Cache, Root) ->
    case Root =/= missing andalso dev_websocket_cache:path(Root) of
        {ok, Path} -> committers(Cache, <<Path/binary, "/commitments">>, ?TRIES);
        _ -> []
    end.

%%% Private functions.

committers(_Cache, _At, 0) ->
    [];
committers(Cache, At, Left) ->
    case signers(Cache, At, dev_websocket_cache:names(Cache, At), ?MAX_SIGNERS) of
        [] -> committers(Cache, At, Left - 1);
        Found -> Found
    end.

signers(_Cache, _At, [], _Left) -> [];
signers(_Cache, _At, _Names, 0) -> [];
signers(Cache, At, [Id | Names], Left) ->
    case committer(Cache, {path, <<At/binary, "/", Id/binary>>}) of
        Committer when is_binary(Committer) -> [{Id, Committer} | signers(Cache, At, Names, Left - 1)];
        undefined -> signers(Cache, At, Names, Left)
    end.

%% @doc The signer of a commitment. A commitment by hash alone has none.
committer(Cache, Root) ->
    case dev_websocket_cache:text_key(Cache, Root, <<"committer">>) of
        undefined ->
            case dev_websocket_cache:text_key(Cache, Root, <<"type">>) of
                <<"hmac-sha256">> -> undefined;
                _ -> dev_websocket_cache:text_key(Cache, root(Cache, Root), <<"committer">>)
            end;
        Committer ->
            Committer
    end.

%% @doc The signatures of a message, the one of this id among them. An id of several
%% signatures is none of theirs.
commitments(Cache, Id, At, Left) ->
    Names = dev_websocket_cache:names(Cache, At),
    case Left =:= 0 orelse lists:member(Id, Names) of
        true -> maps:from_list([{Name, load_all(Cache, message(Cache, <<At/binary, "/", Name/binary>>))} || Name <- Names]);
        false -> commitments(Cache, Id, At, Left - 1)
    end.

proven(_Cache, Path, 0, _Before) ->
    error({not_whole, Path});
proven(#{generation := Generation} = Cache, Path, Left, Before) ->
    Read = dev_websocket_cache:entries(Cache, Path),
    case Read of
        {Place, Keys} ->
            case own_keys(Cache, Place, Keys) of
                {ok, Whole} -> {Place, Whole};
                %% Such a node has not been tried: two equal readings have to do there.
                _ when Generation =:= newer, Read =:= Before -> Read;
                _ -> again(Cache, Path, Left, Read)
            end;
        torn ->
            again(Cache, Path, Left, none)
    end.

%% @doc The keys of a message without those that a stranger can add beside them.
own_keys(#{opts := Opts} = Cache, Place, Keys) ->
    case whole(Place, variants(Keys), Opts) of
        none ->
            whole(Place, dev_websocket_names:chosen(Cache, Place, Keys), Opts);
        {ok, Whole} = Found ->
            ok = dev_websocket_names:keep(Whole),
            Found
    end.

%% @doc The first of these readings that has the id, or the first one on a node that cannot
%% compute ids.
whole(_Place, [], _Opts) ->
    none;
whole(Place, [Keys | Others], Opts) ->
    case dev_websocket_node:content_id(Keys, Opts) of
        {ok, Place} -> {ok, Keys};
        unknown -> {ok, Keys};
        _ -> whole(Place, Others, Opts)
    end.

%% @doc A node keeps the answer of `/<message>/<request>' beside the keys of the message, under
%% the id of the request (`hb_cache:write_binary/3'). So anybody can add such names, and they
%% are left out: all of them, or one of them where others are keys of the message.
variants(Keys) ->
    case [Name || Name <- maps:keys(Keys), dev_websocket_cache:is_id(Name)] of
        [] -> [Keys];
        [_] = Ids -> [Keys, maps:without(Ids, Keys)];
        Ids -> [Keys, maps:without(Ids, Keys) | [maps:remove(Id, Keys) || Id <- lists:sublist(Ids, ?MAX_VARIANTS)]]
    end.

again(Cache, Path, Left, Read) ->
    true = erlang:yield(),
    proven(Cache, Path, Left - 1, Read).

%% @doc The keys with their types. A list has its type as well.
structured(#{opts := Opts}, #{<<"ao-types">> := Types} = Keys) ->
    Items = binary:split(Types, <<", ">>, [global]),
    List = <<".=\"list\"">>,
    IsList = lists:member(List, Items),
    Typed = case Items -- [List] of
        [] -> linked(maps:remove(<<"ao-types">>, Keys));
        Other ->
            case dev_websocket_node:structured(Keys#{<<"ao-types">> := join(Other)}, Opts) of
                {ok, Message} -> Message;
                error -> error(not_structured)
            end
    end,
    case IsList of
        true -> [Value || {_, Value} <- lists:sort([{binary_to_integer(Key), Value} || {Key, Value} <- maps:to_list(Typed)])];
        false -> Typed
    end;
structured(_Cache, Keys) ->
    linked(Keys).

join(Items) -> iolist_to_binary(lists:join(<<", ">>, Items)).

linked(Keys) ->
    maps:from_list([linked(Name, Value) || {Name, Value} <- maps:to_list(Keys)]).

linked(Name, Value) ->
    Size = byte_size(Name) - 5,
    case Name of
        <<Key:Size/binary, "+link">> -> {Key, {link, Value, #{<<"type">> => <<"link">>, <<"lazy">> => false}}};
        _ -> {Name, Value}
    end.
