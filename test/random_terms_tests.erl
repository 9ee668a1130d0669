%%% @doc Random terms of every kind, nested: each is cast, each arrives as JSON or is
%%% counted, and none leaves memory behind.
-module(random_terms_tests).
-export([term/1]).
-include_lib("eunit/include/eunit.hrl").

-define(TERMS, 10000).
-define(BATCH, 50).

random_terms_test_() ->
    {setup,
        fun() ->
            ok = dev_websocket:stop(),
            %% The client reads between the batches, not during one.
            ok = dev_websocket:start(#{history_bytes => 0, send_buffer_bytes => 256 * 1024 * 1024})
        end,
        fun(_) -> dev_websocket:stop() end,
        [
            {timeout, 900, {"every random term arrives or is counted", fun every_random_term_arrives_or_is_counted/0}},
            {timeout, 900, {"memory returns to where it was", fun memory_returns_to_where_it_was/0}}
        ]}.

every_random_term_arrives_or_is_counted() ->
    Seed = erlang:system_time(millisecond),
    _ = rand:seed(exsss, Seed),
    ?debugFmt("seed ~b", [Seed]),
    {ok, #{uri := Uri}} = dev_websocket:info(),
    Client = ws_client:connect_raw(Uri, "topic=*"),
    Before = dev_websocket:stats(),
    lists:foreach(
        fun(_) ->
            Terms = [term(rand:uniform(6)) || _ <- lists:seq(1, ?BATCH)],
            Counted = count(<<"publications">>),
            [?assertEqual({ok, <<"OK">>}, dev_websocket:cast(Term, term(1))) || Term <- Terms],
            %% All of it can be read back by a strict reader.
            [ws_client:recv_json(Client) || _ <- lists:seq(1, count(<<"publications">>) - Counted)]
        end,
        lists:seq(1, ?TERMS div ?BATCH)
    ),
    After = dev_websocket:stats(),
    Gained = fun(Name) -> maps:get(Name, After) - maps:get(Name, Before) end,
    ?assertEqual(0, Gained(<<"panics">>)),
    ?assertEqual(?TERMS, Gained(<<"publications">>) + Gained(<<"dropped_too_large">>)),
    ?assert(Gained(<<"publications">>) > ?TERMS div 2),
    ?assert(ws_client:is_open(Client)),
    gen_tcp:close(Client).

%% The terms are the same in each round, so kept memory shows. The least memory in use must
%% not grow from the first three rounds to the last three.
memory_returns_to_where_it_was() ->
    {ok, #{uri := Uri}} = dev_websocket:info(),
    Client = ws_client:connect_raw(Uri, "topic=*"),
    Rounds = [begin a_round(Client), memory() end || _ <- lists:seq(1, 6)],
    {First, Last} = lists:split(3, Rounds),
    Growth = fun(Kind) -> lists:min([Kind(Memory) || Memory <- Last]) - lists:min([Kind(Memory) || Memory <- First]) end,
    ?debugFmt("KiB of the VM and of the process, by round: ~w", [Rounds]),
    %% Each round casts more than 10 MB.
    ?assert(Growth(fun({Vm, _}) -> Vm end) < 1024, Rounds),
    ?assert(Growth(fun({_, Process}) -> Process end) < 4096, Rounds),
    ?assert(ws_client:is_open(Client)).

%%% Helpers.

%% @doc Cast and read in a process of its own, so that its heap is gone afterwards.
a_round(Client) ->
    {Process, Monitor} = spawn_monitor(fun() ->
        receive go -> ok end,
        _ = rand:seed(exsss, 1),
        lists:foreach(
            fun(_) ->
                Counted = count(<<"publications">>),
                [dev_websocket:cast([binary:copy(<<"x">>, 2000), term(4)], #{}) || _ <- lists:seq(1, ?BATCH)],
                [ws_client:recv_text(Client) || _ <- lists:seq(1, count(<<"publications">>) - Counted)]
            end,
            lists:seq(1, ?TERMS div ?BATCH div 2)
        ),
        receive {back, Test} -> ok = gen_tcp:controlling_process(Client, Test) end
    end),
    ok = gen_tcp:controlling_process(Client, Process),
    Process ! go,
    Process ! {back, self()},
    receive {'DOWN', Monitor, process, _, Reason} -> ?assertEqual(normal, Reason) end.

memory() ->
    [erlang:garbage_collect(Pid) || Pid <- processes()],
    {erlang:memory(total) div 1024, resident()}.

%% @doc The resident memory of this VM in KiB, where the system has it.
resident() ->
    case file:read_file("/proc/self/status") of
        {ok, Status} ->
            {match, [Size]} = re:run(Status, "VmRSS:\\s+([0-9]+)", [{capture, all_but_first, list}]),
            list_to_integer(Size);
        {error, _} ->
            0
    end.

count(Name) ->
    maps:get(Name, dev_websocket:stats()).

%% @doc A random term, nested so deep at the most.
term(0) ->
    case rand:uniform(18) of
        1 -> pick([true, false, null, undefined, nil, '', 'ключ', 'é', 'with space', link, priv, topic]);
        2 -> rand:uniform(1000) - 500;
        3 -> (rand:uniform(1 bsl 62) - (1 bsl 61)) * pick([1, 1 bsl 10, 1 bsl 100, 1 bsl 1000, 1 bsl 9000]);
        4 -> (rand:uniform() - 0.5) * math:pow(10, rand:uniform(600) - 300);
        5 -> rand:bytes(rand:uniform(40) - 1);
        6 -> text(rand:uniform(40) - 1);
        7 -> rand:bytes(seldom(70000));
        8 -> text(seldom(3000));
        9 -> <<(rand:bytes(rand:uniform(4)))/binary, 1:(rand:uniform(7))>>;
        10 -> binary:part(text(300), 40, 17);
        11 -> self();
        12 -> make_ref();
        13 -> pick([fun() -> ok end, fun lists:map/2]);
        14 -> pick(erlang:ports());
        15 -> pick([[], #{}, {}, <<>>, ""]);
        16 -> "text";
        17 -> {link, text(43), #{}};
        18 -> pick([lists:seq(1, seldom(3000)), erlang:make_tuple(seldom(3000), a)])
    end;
term(Depth) ->
    Terms = [term(rand:uniform(Depth) - 1) || _ <- lists:seq(1, rand:uniform(6))],
    case rand:uniform(8) of
        1 -> Terms;
        2 -> list_to_tuple(Terms);
        3 -> maps:from_list([{key(Depth), Term} || Term <- Terms]);
        4 -> maps:from_list([{key(Depth), Term} || Term <- Terms]);
        5 -> [{key(Depth), Term} || Term <- Terms];
        6 -> [pick([atom, {key(Depth), Term}]) || Term <- Terms];
        7 -> Terms ++ term(0);
        8 -> lists:foldl(fun(Term, Deep) -> [Deep, Term] end, [], lists:duplicate(rand:uniform(200), hd(Terms)))
    end.

key(Depth) ->
    case rand:uniform(8) of
        1 -> pick([topic, topics, <<"topic">>, <<"Topics">>, <<"tags">>, "Tags", <<"action">>, <<"process">>]);
        2 -> pick([priv, <<"priv">>, <<"commitments">>, <<"name">>, <<"value">>, <<"data">>]);
        3 -> rand:uniform(5);
        4 -> rand:bytes(rand:uniform(20));
        5 -> pick([a, b, 'ключ', '']);
        6 -> "charlist";
        7 -> term(Depth div 2);
        8 -> text(rand:uniform(20))
    end.

%% @doc Text of one to four bytes a character.
text(Length) ->
    Range = fun() -> pick([{0, 127}, {32, 126}, {128, 2047}, {2048, 16#d7ff}, {16#10000, 16#10ffff}]) end,
    unicode:characters_to_binary([
        begin {From, To} = Range(), From + rand:uniform(To - From + 1) - 1 end
     || _ <- lists:seq(1, Length)
    ]).

%% @doc A size up to that, but mostly a small one.
seldom(Most) ->
    case rand:uniform(50) of
        1 -> rand:uniform(Most);
        _ -> rand:uniform(20)
    end.

pick(List) ->
    lists:nth(rand:uniform(length(List)), List).
