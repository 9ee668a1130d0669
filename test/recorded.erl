%%% @doc The terms that a real node handed over, and how tests make them their own.
-module(recorded).
-export([term/1, names/0, call/1, fresh/1, process/0, mutated/1]).

%% @doc A recorded term by the name of its file.
-spec term(string()) -> term().
term(Name) ->
    {ok, [Term]} = file:consult(file(Name)),
    Term.

%% @doc All of them.
-spec names() -> [string()].
names() ->
    [
        filename:basename(File, ".term")
     ||
        Folder <- folders(),
        File <- lists:sort(filelib:wildcard(filename:join(Folder, "*.term")))
    ].

%% @doc The three arguments of a recorded call of a key. Of a hook's `step' only the
%% request was recorded; the node makes the other two from its options.
-spec call(string()) -> {map(), map(), map()}.
call("step_hook" ++ _ = Name) ->
    {step_handler(), term(Name), #{on => #{}}};
call(Name) ->
    #{base := Base, req := Request, opts := Opts} = term(Name),
    {Base, Request, Opts}.

step_handler() ->
    #{
        <<"device">> => <<"websocket@1.0">>,
        <<"path">> => <<"step">>,
        <<"hook">> => #{<<"result">> => <<"ignore">>}
    }.

%% @doc The term with every process in it under another id, as each slot is
%% published once in a VM.
-spec fresh(term()) -> {binary(), term()}.
fresh(Term) ->
    Id = process(),
    {Id, renamed(Term, process_ids(Term), Id)}.

%% @doc An id that nothing else has.
-spec process() -> binary().
process() ->
    Text = base64:encode(crypto:strong_rand_bytes(32)),
    << <<(url_safe(Character))>> || <<Character>> <= Text, Character =/= $= >>.

url_safe($+) -> $-;
url_safe($/) -> $_;
url_safe(Character) -> Character.

%% @doc Ids of process messages: commitments that name a committer.
process_ids(#{<<"type">> := Type, <<"commitments">> := Commitments} = Map) when is_map(Commitments) ->
    Here = [Id || {Id, #{<<"committer">> := _}} <- maps:to_list(Commitments), is_process(Type)],
    Here ++ lists:append([process_ids(Value) || Value <- maps:values(Map)]);
process_ids(Map) when is_map(Map) -> lists:append([process_ids(Value) || Value <- maps:values(Map)]);
process_ids([Head | Tail]) -> process_ids(Head) ++ process_ids(Tail);
process_ids(Tuple) when is_tuple(Tuple) -> process_ids(tuple_to_list(Tuple));
process_ids(_) -> [].

is_process(<<"Process">>) -> true;
%% In the cache the type is a link, and the message is a process.
is_process({link, _, _}) -> true;
is_process(_) -> false.

renamed(Binary, Ids, Id) when is_binary(Binary) ->
    lists:foldl(fun(Old, Acc) -> binary:replace(Acc, Old, Id, [global]) end, Binary, Ids);
renamed(Map, Ids, Id) when is_map(Map) ->
    maps:from_list([{renamed(Key, Ids, Id), renamed(Value, Ids, Id)} || {Key, Value} <- maps:to_list(Map)]);
renamed([Head | Tail], Ids, Id) -> [renamed(Head, Ids, Id) | renamed(Tail, Ids, Id)];
renamed(Tuple, Ids, Id) when is_tuple(Tuple) -> list_to_tuple(renamed(tuple_to_list(Tuple), Ids, Id));
renamed(Other, _, _) -> Other.

%% @doc The term with something wrong in one place, by the process's random state.
-spec mutated(term()) -> term().
mutated(Map) when is_map(Map), map_size(Map) > 0 ->
    Keys = maps:keys(Map),
    Key = lists:nth(rand:uniform(length(Keys)), Keys),
    case rand:uniform(8) of
        1 -> maps:remove(Key, Map);
        2 -> Map#{Key := odd()};
        3 -> (maps:remove(Key, Map))#{odd() => maps:get(Key, Map)};
        4 -> odd();
        _ -> Map#{Key := mutated(maps:get(Key, Map))}
    end;
mutated([_ | _] = List) when length(List) > 0 ->
    {Before, [Item | After]} = lists:split(rand:uniform(length(List)) - 1, List),
    case rand:uniform(5) of
        1 -> Before ++ After;
        2 -> Before ++ [Item | odd()];
        _ -> Before ++ [mutated(Item) | After]
    end;
mutated(_) ->
    odd().

odd() ->
    Odd = [
        <<>>, 0, -1, 1 bsl 80, 1.5, null, undefined, [], [a | b], {}, #{}, self(), make_ref(), fun() -> ok end,
        <<255, 254, 0>>, binary:copy(<<"x">>, 300_000), "charlist", <<1:3>>,
        {link, <<"nowhere">>, #{}}, {link, 1, 2}, {link, {link, a, b}, #{<<"lazy">> => true}},
        #{<<"path">> => #{<<"path">> => [<<"path">>, #{<<"path">> => <<"/../..">>}]}},
        <<"/a/../a/../", (binary:copy(<<"a/">>, 5000))/binary>>,
        #{<<"commitments">> => #{<<"x">> => #{<<"committer">> => 1}}}
    ],
    lists:nth(rand:uniform(length(Odd)), Odd).

file(Name) ->
    [File | _] = [
        File
     ||
        Folder <- folders(),
        File <- [filename:join(Folder, Name ++ ".term")],
        filelib:is_regular(File)
    ],
    File.

folders() ->
    Test = filename:dirname(proplists:get_value(source, ?MODULE:module_info(compile))),
    [filename:join(Test, "fixtures"), filename:join([filename:dirname(Test), "examples", "feed", "recorded"])].
