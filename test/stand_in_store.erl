%%% @doc Stands in for a node's `hb_store' (June and September 2025): a table with the paths
%%% of a recorded store. Loaded under that name by `stand_in'.
-module(stand_in_store).
-export([scope/2, type/2, resolve/2, read/2, list/2]).

scope(Stores, local) when is_list(Stores) ->
    [Store || Store <- Stores, maps:get(<<"scope">>, Store, local) =:= local].

type(Stores, Path) ->
    first(fun(Table) ->
        case at(Table, Path) of
            group -> composite;
            {value, _} -> simple;
            none -> not_found
        end
    end, Stores).

resolve(Stores, Path) ->
    first(fun(Table) -> resolved(Table, Path) end, Stores).

read(Stores, Path) ->
    first(fun(Table) ->
        case entry(Table, Path) of
            {value, Value} -> {ok, Value};
            _ -> not_found
        end
    end, Stores).

list(Stores, Path) ->
    first(fun(Table) ->
        Group = resolved(Table, Path),
        case entry(Table, Group) of
            group -> {ok, names(Table, <<Group/binary, "/">>)};
            _ -> not_found
        end
    end, Stores).

%%% Private functions.

first(Ask, Store) when is_map(Store) -> first(Ask, [Store]);
first(_Ask, []) -> not_found;
first(Ask, [#{<<"table">> := Table} | Stores]) ->
    count(Table),
    case Ask(Table) of
        not_found -> first(Ask, Stores);
        Answer -> Answer
    end.

%% @doc Count the calls for the test, and call its function, which may fail or hang.
count(Table) ->
    _ = ets:update_counter(Table, '#calls', 1, {'#calls', 0}),
    case ets:lookup(Table, '#fault') of
        [{_, Fault}] -> Fault();
        [] -> ok
    end.

%% @doc As in the file store, whose links hold paths of its own: only the last part of the
%% path is followed.
at(Table, Path) ->
    case lookup(Table, Path) of
        {link, Target} -> at(Table, Target);
        Entry -> Entry
    end.

%% @doc A link that was not followed, because it was missing, is followed by a file system.
entry(Table, Path) ->
    case lookup(Table, resolved(Table, Path)) of
        {link, Target} -> entry(Table, Target);
        Entry -> Entry
    end.

lookup(Table, Path) ->
    case ets:lookup(Table, Path) of
        [{_, {hang, Hang, Value}}] -> Hang(), {value, Value};
        [{_, missing}] -> none;
        [{_, Entry}] -> seen(Table, Path, Entry);
        [] -> none
    end.

%% @doc What a look sees while somebody writes the same content: a test may tear it.
seen(Table, Path, Entry) ->
    case ets:lookup(Table, '#tear') of
        [{_, Tear}] -> Tear(Path, Entry);
        [] -> Entry
    end.

%% @doc The path with the links of all its parts followed, as a file system does.
resolved(Table, Path) ->
    resolved(Table, <<>>, binary:split(Path, <<"/">>, [global]), 0).

resolved(_Table, Done, _Rest, Hops) when Hops > 40 -> Done;
resolved(_Table, Done, [], _Hops) -> Done;
resolved(Table, Done, [Part | Rest], Hops) ->
    Path = case Done of
        <<>> -> Part;
        _ -> <<Done/binary, "/", Part/binary>>
    end,
    case lookup(Table, Path) of
        {link, Target} -> resolved(Table, <<>>, binary:split(Target, <<"/">>, [global]) ++ Rest, Hops + 1);
        _ -> resolved(Table, Path, Rest, Hops)
    end.

names(Table, Prefix) ->
    names(Table, Prefix, ets:next(Table, Prefix)).

names(Table, Prefix, Key) when is_binary(Key) ->
    Size = byte_size(Prefix),
    case Key of
        <<Prefix:Size/binary, Name/binary>> ->
            Next = names(Table, Prefix, ets:next(Table, Key)),
            case binary:match(Name, <<"/">>) =:= nomatch andalso lookup(Table, Key) =/= none of
                true -> [Name | Next];
                false -> Next
            end;
        _ ->
            []
    end;
names(_Table, _Prefix, _Key) ->
    [].
