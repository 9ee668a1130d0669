%%% @doc Names that the keys of a message may have, where a stranger has added others.
%%%
%%% A node keeps a message with further keys at the place of the message without them, if a
%%% commitment over the first keys still holds (`dev_message:set/3'). So anybody can add keys
%%% of any name, and their types, and can shorten the list of a commitment. Two sources tell
%%% the names that a message had before:
%%%
%%% - the lists of its commitments, each alone and all together,
%%% - the names of messages that were whole lately. Messages of a kind have the same names, so
%%%   the table holds few, and those that were seen most often stay.
%%%
%%% Nobody has to trust either: what is left with these names must have the id of the place.
-module(dev_websocket_names).
-export([new_table/0, keep/1, chosen/3]).

-define(TABLE, hb_websocket_names).
%% Sets of names in the table.
-define(MAX_SETS, 256).
%% Sets that are tried for a message. Each costs the computation of an id.
-define(MAX_TRIED, 32).
%% Names of a set, and their bytes.
-define(MAX_NAMES, 64).
-define(MAX_BYTES, 2048).
%% Commitments of a message that are read.
-define(MAX_COMMITMENTS, 16).

-type keys() :: #{binary() => binary()}.

%% @doc Called by the supervisor, which owns the table.
-spec new_table() -> ok.
new_table() ->
    _ = ets:new(?TABLE, [set, named_table, public, {write_concurrency, true}]),
    ok.

%% @doc Remember the names of a message that is whole.
-spec keep(keys()) -> ok.
keep(Keys) ->
    Names = maps:keys(Keys),
    try
        case ets:member(?TABLE, Names) of
            true -> _ = ets:update_counter(?TABLE, Names, 1);
            false -> _ = is_small(Names) andalso add(Names)
        end,
        ok
    catch
        %% Without the supervisor there is no table, and without a table no memory.
        error:badarg -> ok
    end.

%% @doc The parts of a message that may be all of it, the likeliest first.
-spec chosen(dev_websocket_cache:cache(), binary(), keys()) -> [keys()].
chosen(Cache, Place, Keys) ->
    Lists = lists(Cache, Place),
    Listed = [only(Names, Form, Keys) || Names <- Lists, Form <- [link, plain]],
    Known = lists:append([[maps:with(Names, Keys), typed(Names, Keys)] || Names <- known(Keys)]),
    lists:sublist(distinct(Listed ++ Known) -- [Keys], ?MAX_TRIED).

%%% Names that were whole.

is_small(Names) ->
    length(Names) =< ?MAX_NAMES andalso lists:sum([byte_size(Name) || Name <- Names]) =< ?MAX_BYTES.

add(Names) ->
    _ = ets:info(?TABLE, size) < ?MAX_SETS orelse ets:delete(?TABLE, rarest()),
    ets:insert_new(?TABLE, {Names, 1}).

rarest() ->
    {Names, _} = ets:foldl(
        fun
            ({_, Count} = Set, {_, Least}) when Count < Least -> Set;
            (_, Least) -> Least
        end,
        {[], infinity},
        ?TABLE
    ),
    Names.

%% @doc The known sets of which a message has all names, those that were seen most often first.
known(Keys) ->
    try ets:tab2list(?TABLE) of
        Sets ->
            Fitting = [{Count, Names} || {Names, Count} <- Sets, lists:all(fun(Name) -> is_map_key(Name, Keys) end, Names)],
            {_, Found} = lists:unzip(lists:reverse(lists:sort(Fitting))),
            %% Each makes a part of its own, and one of them may be the whole message.
            lists:sublist(Found, ?MAX_TRIED + 1)
    catch
        %% Without the supervisor there is no table.
        error:badarg -> []
    end.

%%% Names that commitments list.

lists(Cache, Place) ->
    At = <<Place/binary, "/commitments">>,
    %% The one of the place itself is the likeliest.
    Ids = [Place | lists:delete(Place, lists:sublist(lists:sort(dev_websocket_cache:names(Cache, At)), ?MAX_COMMITMENTS))],
    Lists = [Names || Id <- Ids, Names <- [list(Cache, <<At/binary, "/", Id/binary>>)], Names =/= []],
    distinct(Lists ++ [lists:usort(lists:append(Lists))]).

list(Cache, Commitment) ->
    case dev_websocket_cache:entries(Cache, Commitment) of
        {_, #{<<"committed+link">> := List}} ->
            case dev_websocket_cache:entries(Cache, List) of
                {_, Names} -> lists:usort([Name || {Number, Name} <- maps:to_list(Names), Number =/= <<"ao-types">>]);
                torn -> []
            end;
        _ ->
            []
    end.

%% @doc The keys of these names with their types. Where a name stands for a link and for a
%% value, one of them was added.
only(Names, Form, Keys) ->
    Linked = fun(Name) -> <<Name/binary, "+link">> end,
    Files = [
        case {Form, is_map_key(Name, Keys), is_map_key(Linked(Name), Keys)} of
            {link, _, true} -> Linked(Name);
            {plain, false, true} -> Linked(Name);
            _ -> Name
        end
     || Name <- Names
    ],
    typed([<<"ao-types">> | Files], Keys).

%% @doc The keys of these names, with the types of no others.
typed(Names, Keys) ->
    Kept = maps:with(Names, Keys),
    case Kept of
        #{<<"ao-types">> := Types} ->
            Plain = [<<".">> | [hd(binary:split(Name, <<"+link">>)) || Name <- Names]],
            case [Item || Item <- binary:split(Types, <<", ">>, [global]), lists:member(hd(binary:split(Item, <<"=\"">>)), Plain)] of
                [] -> maps:remove(<<"ao-types">>, Kept);
                Items -> Kept#{<<"ao-types">> => iolist_to_binary(lists:join(<<", ">>, Items))}
            end;
        #{} ->
            Kept
    end.

%% @doc The items in their order, each once.
distinct(Items) ->
    lists:reverse(lists:foldl(
        fun(Item, Seen) ->
            case lists:member(Item, Seen) of
                true -> Seen;
                false -> [Item | Seen]
            end
        end,
        [],
        Items
    )).
