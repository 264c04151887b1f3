// Explain a frame with explain.onnx (sise-ort compose BUNDLE -o explain.onnx): one frame in, label and heat map out.
//   dotnet run -- explain.onnx frame.ppm heat.pgm [PASSES]
// Frames are binary PPM (RGB) or PGM (gray) files of the network's size; normalising happens inside of explain.onnx.
using System;
using System.Globalization;
using System.IO;
using System.Text;
using Microsoft.ML.OnnxRuntime;

if (args.Length < 3)
{
    Console.Error.WriteLine("usage: explain explain.onnx frame.ppm heat.pgm [PASSES]");
    return 1;
}

// 1. The frame, HWC, as a camera gives it.
byte[] file = File.ReadAllBytes(args[1]);
int at = 0;
string Word()
{
    int start = at;
    while (!char.IsWhiteSpace((char)file[at])) at++;
    return Encoding.ASCII.GetString(file, start, at++ - start);
}
string kind = Word();
int width = int.Parse(Word()), height = int.Parse(Word()), white = int.Parse(Word());
if ((kind != "P6" && kind != "P5") || white != 255) throw new InvalidDataException("no 8-bit PPM or PGM file");
int channels = kind == "P6" ? 3 : 1;
byte[] frame = file[at..(at + width * height * channels)];

// 2. One run: the top class (-1), μ = 0, and at most so many masks (0: none, negative: all).
using var session = new InferenceSession(args[0]);
long[] scalar = Array.Empty<long>(); // scalars have no dimensions
using var image = OrtValue.CreateTensorValueFromMemory(frame, new long[] { height, width, channels });
using var target = OrtValue.CreateTensorValueFromMemory(new long[] { -1 }, scalar);
using var mu = OrtValue.CreateTensorValueFromMemory(new float[] { 0 }, scalar);
using var passes = OrtValue.CreateTensorValueFromMemory(new long[] { args.Length > 3 ? long.Parse(args[3]) : 64 }, scalar);
using var options = new RunOptions();
using var found = session.Run(
    options,
    new[] { "image", "target", "mu", "passes" },
    new[] { image, target, mu, passes },
    new[] { "heatmap", "class", "confidence" });

// 3. The answer, and the heat map as a gray picture.
long index = found[1].GetTensorDataAsSpan<long>()[0];
float confidence = found[2].GetTensorDataAsSpan<float>()[(int)index];
string[] labels = session.ModelMetadata.CustomMetadataMap.TryGetValue("label_lines", out var lines)
    ? lines.Split('\n') : Array.Empty<string>();
string label = index < labels.Length && labels[index] != "" ? labels[index] : $"class {index}";
Console.WriteLine(string.Format(CultureInfo.InvariantCulture, "{0} {1}", label, confidence));
ReadOnlySpan<float> heat = found[0].GetTensorDataAsSpan<float>();
using var output = File.Create(args[2]);
output.Write(Encoding.ASCII.GetBytes($"P5\n{width} {height}\n255\n"));
byte[] gray = new byte[heat.Length];
for (int i = 0; i < gray.Length; i++) gray[i] = (byte)Math.Round(255 * heat[i]);
output.Write(gray);
return 0;
