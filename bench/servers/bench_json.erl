%% The little JSON that the benchmark's protocol needs: flat objects in, maps of numbers and text out. OTP 25 has none.
-module(bench_json).

-export([decode/1, encode/1]).

%% A flat object: text, numbers and booleans. Text without escapes.
decode(Line) ->
    Pattern = <<"\"([a-z_0-9]+)\"\\s*:\\s*(?:\"([^\"\\\\]*)\"|(-?[0-9.]+|true|false))">>,
    case re:run(Line, Pattern, [global, {capture, all_but_first, binary}]) of
        {match, Pairs} -> maps:from_list([pair(Pair) || Pair <- Pairs]);
        nomatch -> #{}
    end.

pair([Key, Text]) -> {Key, Text};
pair([Key, <<>>, <<"true">>]) -> {Key, true};
pair([Key, <<>>, <<"false">>]) -> {Key, false};
pair([Key, <<>>, Number]) ->
    {Key, case binary:match(Number, <<".">>) of
        nomatch -> binary_to_integer(Number);
        _ -> binary_to_float(Number)
    end}.

encode(Map) when is_map(Map) ->
    [${, lists:join($,, [[text(Key), $:, encode(Value)] || {Key, Value} <- maps:to_list(Map)]), $}];
encode(List) when is_list(List) -> [$[, lists:join($,, [encode(Item) || Item <- List]), $]];
encode(Bool) when is_boolean(Bool) -> atom_to_binary(Bool);
encode(Integer) when is_integer(Integer) -> integer_to_binary(Integer);
encode(Float) when is_float(Float) -> float_to_binary(Float, [{decimals, 3}]);
encode(Text) when is_binary(Text); is_atom(Text) -> text(Text);
encode(Other) -> text(iolist_to_binary(io_lib:format("~0p", [Other]))).

text(Atom) when is_atom(Atom) -> text(atom_to_binary(Atom));
text(Text) when is_binary(Text) ->
    [$", [escape(Char) || Char <- unicode:characters_to_list(printable(Text))], $"];
text(Other) -> text(iolist_to_binary(io_lib:format("~0p", [Other]))).

printable(Text) ->
    case unicode:characters_to_list(Text) of
        List when is_list(List) -> Text;
        _ -> <<"(bytes)">>
    end.

escape($") -> "\\\"";
escape($\\) -> "\\\\";
escape(Char) when Char < 32 -> io_lib:format("\\u~4.16.0b", [Char]);
escape(Char) when Char < 128 -> Char;
escape(_) -> $?.
